"""What is known of a message when it has arrived, before anybody has looked into it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class Facts:
    """One message, for ``Policy.decide``. To make this costs nothing; to ask it may."""

    tenant: str
    sender: bytes  # of the envelope; b"" is the null sender
    recipients: Sequence[bytes]
    size: int  # octets
    head: bytes  # the header block as it will be stored, without our Received line
    # The whole message: called at most once, and only when a rule needs it. What it raises comes out
    # of ``decide``.
    read: Callable[[], Awaitable[bytes]]
    # For scanners.
    client: str = ""  # address
    hello: str = ""
    message_id: str = ""  # ours
