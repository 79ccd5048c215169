"""How urgent a message is: what its own header says, else a rule for its sender, else its tenant.

Pure, and cheap for who has configured nothing. The header field stays in the message.
"""

from collections.abc import Iterator

from relay.address import find_domain
from relay.config.schema import Priority, Tenant

# Octets at the beginning of a message in which the field is looked for. Gmail's own heads are below
# 20 KiB; a head without end must not be searched to its end.
HEAD_OCTETS = 64 * 1024

_CLASSES: dict[bytes, Priority] = {b"urgent": "urgent", b"normal": "normal", b"bulk": "bulk"}


def find_priority(tenant: Tenant, sender: bytes, beginning: bytes) -> Priority:
    """Return the class of a message.

    ``sender`` is the envelope's, ``beginning`` the message or its first part. A field that says
    something else than one of the three words says nothing.
    """
    if tenant.priority_header:
        for value in find_values(beginning, tenant.priority_header):
            if (found := _CLASSES.get(value.lower())) is not None:
                return found
    if tenant.priority_rule:
        names = _name_sender(sender)
        for rule in tenant.priority_rule:
            if not names.isdisjoint(rule.senders):
                return rule.priority
    return tenant.priority


def find_values(beginning: bytes, name: str) -> Iterator[bytes]:
    """Yield the values of the header fields of this name, unfolded and trimmed.

    The head ends at the first empty line (RFC 5322 §2.1), or after HEAD_OCTETS.
    """
    # With a CRLF in front, and one behind it, every field is between two of them.
    head = b"\r\n" + beginning[:HEAD_OCTETS]
    end = head.find(b"\r\n\r\n")
    head = head[: end + 2] if end >= 0 else head
    lowered = head.lower()
    start = b"\r\n" + name.lower().encode("ascii")
    at = lowered.find(start)
    while at >= 0:
        line = at + len(start)
        stop = _find_end(head, line)
        # RFC 5322 §4.5.8: blanks before the colon are obsolete, and to be understood.
        before, colon, value = head[line:stop].partition(b":")
        # A field whose end is not in sight may say more: it is not read.
        if colon and not before.strip(b" \t") and stop < len(head):
            yield b" ".join(value.split())
        at = lowered.find(start, line)


def _find_end(head: bytes, at: int) -> int:
    """Return where a field ends: before a CRLF that no blank follows (RFC 5322 §2.2.3)."""
    while True:
        at = head.find(b"\r\n", at)
        if at < 0:
            return len(head)
        if head[at + 2 : at + 3] not in (b" ", b"\t"):
            return at
        at += 2


def _name_sender(sender: bytes) -> frozenset[str]:
    """Return what a rule may call this sender: its address, and all of its domain.

    In lower case. RFC 5321 §2.4 keeps the case of local parts; a rule that overlooks News@ because
    it says news@ would surprise its author more.
    """
    local = sender.rpartition(b"@")[0].decode("utf-8", "replace").lower()
    domain = find_domain(sender)
    return frozenset((f"{local}@{domain}", f"*@{domain}")) if domain else frozenset()
