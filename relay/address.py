"""The domain of an address, in the form that queues and routes know: lower case, A-labels."""

import functools

import idna


@functools.lru_cache(maxsize=16_384)
def _normalise(domain: bytes) -> str | None:
    if domain.startswith(b"["):
        return None
    try:
        if domain.isascii():
            return domain.decode("ascii").lower().rstrip(".")
        # RFC 5895 mapping (case, width), then IDNA 2008 (RFC 5891).
        return idna.encode(domain.decode("utf-8"), uts46=True).decode("ascii").rstrip(".")
    except (UnicodeError, idna.IDNAError):
        return None


def find_domain(address: bytes) -> str | None:
    """Return the domain of ``local@domain``; None for an address literal or an impossible name."""
    _, at, domain = address.rpartition(b"@")
    return _normalise(domain) if at else None
