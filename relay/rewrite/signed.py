"""Which fields DKIM signatures of a message cover."""

from relay.mime import fields


def find_signed(head: bytes) -> frozenset[bytes]:
    """Return the names, in lower case, in h= of all DKIM-Signature fields (RFC 6376 §3.5).

    A signature need not be valid to be counted. Without any: the empty set.
    """
    return frozenset(
        name
        for field, value in fields(head)
        if field.lower() == b"dkim-signature"
        for name in _find_names(value)
    )


def _find_names(signature: bytes) -> list[bytes]:
    for tag in signature.split(b";"):
        name, _, value = tag.partition(b"=")
        if name.strip() == b"h":
            return [one for each in value.split(b":") if (one := each.strip().lower())]
    return []
