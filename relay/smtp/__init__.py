"""SMTP without I/O, both roles: bytes in, events and bytes out. Standard library only.

server.py   the receiving role    client.py   the sending role
grammar.py  commands              reply.py    replies
data.py     content, line ends    RFC.md      what is implemented, and where
"""
