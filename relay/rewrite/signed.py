"""Which fields DKIM signatures of a message cover."""


def find_signed(head: bytes) -> frozenset[bytes]:
    """Return the names, in lower case, in h= of all DKIM-Signature fields (RFC 6376 §3.5)."""
    raise NotImplementedError
