"""The only code that meets sockets and TLS; above it there are only ``relay.errors``."""
