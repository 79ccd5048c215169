"""outgate's ingress service, and everything that ingress and workers share.

relay.smtp      the protocol, both roles, without I/O: bytes in, events and bytes out
relay.net       the only code that meets sockets and TLS; where exceptions change language
relay.store     the queue in Redis: keys, one script per transition, the link that carries them
relay.ingress   the service that accepts mail
relay.dkim      whose a message is: signatures verified and made
relay.mime      what a message consists of, read within bounds
relay.policy    rules: what becomes of a message
relay.rewrite   what rules change in a message
relay.scan      programs that look for spam and malware
relay.archive   copies of messages
relay.audit     the trail of events, in chains
relay.config    the configuration file, typed
relay.model     the words both services use: envelope, delivery, attempt, outcome, blame
relay.address   the domain of an address
relay.events    one JSON line per thing that happened to a message

The import arrow points one way: workers -> relay. Nothing here imports ``workers``, and
``relay.smtp`` imports nothing but the standard library (tests/test_architecture.py).
"""

__version__ = "0.1.0"
