"""The domain of an address, in the form that queues and routes know: lower case, A-labels.

And what rules may call a sender.
"""

import functools
import re

import idna

_PAIR = re.compile(r"\\(.)")  # RFC 5321 §4.1.2: quoted-pairSMTP


# A name of the DNS has 255 octets (RFC 1035 §2.3.4), in U-labels some more. What is larger is none,
# and must not be remembered: not all that is asked about comes from a command line.
_LONGEST = 1024


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
    return _normalise(domain) if at and len(domain) <= _LONGEST else None


def name_sender(address: bytes) -> frozenset[str]:
    """Return what a rule may call a sender: its address, and all of its domain ("*@b.example").

    In lower case. RFC 5321 §2.4 keeps the case of local parts; a rule that overlooks News@ because
    it says news@ would surprise its author more. So would one that overlooks "news"@, which is the
    same address (§4.1.2). The null sender is "<>".
    """
    if not address:
        return frozenset(("<>",))
    domain = find_domain(address)
    if not domain:
        return frozenset()
    local = address.rpartition(b"@")[0].decode("utf-8", "replace").lower()
    if len(local) > 1 and local[0] == local[-1] == '"':
        local = _PAIR.sub(r"\1", local[1:-1])
    return frozenset((f"{local}@{domain}", f"*@{domain}"))
