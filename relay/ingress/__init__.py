"""The service that accepts mail: only from proven tenants, and only when it is on disk.

service.py    the process: listeners, health of the store, stopping
session.py    one connection: the SMTP core over a stream
admission.py  who may send (pure)      networks.py   where Google sends from
trace.py      the Received line (pure)  secret.py     a header that must not go out (pure)
"""
