"""SMTP without I/O, both roles: bytes in, events and bytes out. Standard library only.

    receiving                           sending
    server.py   a session               client.py       a session
    events.py   what it is told, tells  transaction.py  one message
    command.py  MAIL and RCPT           extensions.py   offers, MAIL and RCPT
    grammar.py  commands                reply.py        replies
    data.py     content, line ends      stuffing.py     content

RFC.md      what is implemented, and where
"""
