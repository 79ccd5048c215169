"""The service that accepts mail: only from proven tenants, and only when it is on disk.

service.py     the process: listeners, health of the store, stopping
crowd.py       who is let in, and who makes room
session.py     one connection: the SMTP core over a stream
admission.py   who may send, by network and envelope (pure)    networks/   sets of networks, kept fresh
draft.py       a message on its way in
proof.py       what it shows of who sent it                    secret.py   a header that must not go out
acceptance.py  from the final dot to the 250
desk.py        what all sessions share, made from the configuration
trace.py       the Received line (pure)
"""
