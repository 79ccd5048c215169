"""What a sender asks of TLS on the whole way to the recipient (RFC 8689).

Either that a message goes only where TLS is verified and REQUIRETLS offered, or that whatever a
receiver demands of TLS is overlooked, because the message matters more than its secrecy.
"""

from typing import Literal

from relay.ingress.head import find_values

Demand = Literal["", "optional", "required"]

_FIELD = "TLS-Required"
_NEEDLE = b"\r\n" + _FIELD.lower().encode("ascii")


def find_demand(beginning: bytes, head: bytes, *, requiretls: bool) -> Demand:
    """Return it as ``Envelope.tls`` has it.

    ``beginning`` is the message with our Received line in front, or its first part; ``head`` its
    head in lower case. ``requiretls``: MAIL had the parameter.
    """
    if requiretls:
        return "required"  # RFC 8689 §4.1: the field counts only without the parameter
    # RFC 8689 §3: the only value is "No", in any case.
    if _NEEDLE in head and b"no" in map(bytes.lower, find_values(beginning, _FIELD)):
        return "optional"
    return ""
