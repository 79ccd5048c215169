"""How urgent a message is: what its own header says, else a rule for its sender, else its tenant.

Pure, and cheap for who has configured nothing. The header field stays in the message.
"""

from relay.address import name_sender
from relay.config.schema import Tenant
from relay.config.units import Priority
from relay.ingress.head import find_values

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
        names = name_sender(sender)
        for rule in tenant.priority_rule:
            if not names.isdisjoint(rule.senders):
                return rule.priority
    return tenant.priority
