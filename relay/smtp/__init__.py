"""SMTP without I/O, both roles: bytes in, events and bytes out. Standard library only.

    receiving                           sending
    server.py   a session               client.py       a session
    events.py   what it is told, tells  transaction.py  one message
    command.py  MAIL and RCPT           extensions.py   offers, MAIL and RCPT
    grammar.py  commands                reply.py        replies
    incoming.py content, as it comes    stuffing.py     content
    data.py     its end, its line ends

RFC.md      what is implemented, and where
"""
