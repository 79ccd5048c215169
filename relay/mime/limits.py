"""How far a message is taken apart, and what is said when that is not far enough."""

from dataclasses import dataclass

from relay.errors import OutgateError


class Unreadable(OutgateError):
    """A message cannot be taken apart: too much of something, broken, or read differently by others.

    The text says why, in words, and holds nothing of the message's content.
    """


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what one message may make us do. Sizes in octets."""

    depth: int = 20  # parts in parts, messages in messages
    parts: int = 1000  # of the message, those of messages in it included
    head: int = 256 * 1024  # the header fields of one part
    names: int = 10_000  # in archives
    name_characters: int = 1 << 21  # of the names in archives, all together
    # What archives are unpacked to, all together; as much may be read to do so.
    unpacked: int = 64 * 1024 * 1024


DEFAULT = Limits()
