"""Whom a message says that it is from: the domains in its From field (RFC 5322 §3.6.2).

Readers show this address to people; the envelope's they never see. What cannot be read without doubt
counts as nobody's: where two programs read a field differently, somebody is deceived.
"""

import re

from relay.address import find_domain
from relay.dkim.fields import Fields
from relay.ingress.head import HEAD_OCTETS, find_values

MOST = 100  # addresses; more than one is rare, and nobody writes together with a hundred others

# Both match what is not closed, too, so that nobody looks again from each quote or bracket inside it.
# RFC 5322 §3.2.2: a comment, without others inside; they are taken off from the inside out.
_COMMENT = re.compile(rb"\((?:[^()\\]|\\.)*+(\))?")
_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*+(")?')  # §3.2.4
_SPECIALS = re.compile(rb'[()"\\]')
_DEEPEST = 10
_ADDRESS = rb"[^<>\s,;:@]+@[^<>\s,;:@]+"
# §3.4: name-addr. The name may be anything by now; quoted strings have become `_`.
_NAMED = re.compile(rb"([^<>,;:]*)<\s*(" + _ADDRESS + rb")\s*>")
_BARE = re.compile(_ADDRESS)


def find_authors(head: bytes, known: Fields | None = None) -> tuple[str, ...] | None:
    """Return the domains of the addresses in From (lower case, A-labels).

    ``head``: the header block; ``known``: its fields, if they are known already. None when there is no such field, more than one, or one that cannot
    be read: §3.6 demands exactly one.
    """
    if len(head) > HEAD_OCTETS:
        return None  # beyond that nobody has looked for a second one
    # One, in the widest sense: whoever reads it otherwise than ``find_values`` must not find another,
    # folded before its colon, or without a line end (which it gets on its way).
    fields = list(find_values(head, "From"))
    if len(fields) != 1 or len((known or Fields(head)).find(b"from")) != 1:
        return None
    value = _strip(fields[0])
    if value is None:
        return None
    domains: list[str] = []
    for part in value.split(b","):
        addresses = _read_mailbox(part.strip())
        if not addresses or len(domains) + len(addresses) > MOST:
            return None
        for address in addresses:
            domain = find_domain(address)
            if domain is None:
                return None
            domains.append(domain)
    return tuple(domains)


def _read_mailbox(text: bytes) -> list[bytes]:
    """Return the addresses in it; none when it is no mailbox.

    A name without quotes that is an address itself, as some programs write it, is shown as one.
    """
    if _BARE.fullmatch(text):
        return [text]
    found = _NAMED.fullmatch(text)
    if found is None:
        return []
    named = found[1].split()
    in_name = [word for word in named if _BARE.fullmatch(word)]
    return [*in_name, found[2]] if sum(b"@" in word for word in named) == len(in_name) else []


def _strip(value: bytes) -> bytes | None:
    """Take off quoted strings and comments; None when they do not come out even."""
    if not _SPECIALS.search(value):
        return value
    # Quoted strings first: a bracket inside one opens no comment. The other way round a quote in a
    # comment would be taken for the beginning of a string; then what is left does not come out even.
    value = _QUOTED.sub(lambda found: b"_" if found[1] else found[0], value)
    for _ in range(_DEEPEST):
        before = value
        value = _COMMENT.sub(lambda found: b" " if found[1] else found[0], value)
        if value == before:
            break
    return None if _SPECIALS.search(value) else value
