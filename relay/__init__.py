"""outgate's ingress service, and everything that ingress and workers share.

relay.smtp      the protocol, both roles, without I/O: bytes in, events and bytes out
relay.net       the only code that meets sockets and TLS; where exceptions change language
relay.store     the queue in Redis: keys, one script per transition, the link that carries them
relay.ingress   the service that accepts mail
relay.config    the configuration file, typed
relay.model     the words both services use: envelope, delivery, attempt, outcome, blame
relay.address   the domain of an address
relay.events    one JSON line per thing that happened to a message

The import arrow points one way: workers -> relay. Nothing here imports ``workers``, and
``relay.smtp`` imports nothing but the standard library (tests/test_architecture.py).
"""

__version__ = "0.1.0"
