"""The names of all files in a message, those in archives included."""

from collections.abc import Iterator

from relay.mime.limits import Limits
from relay.mime.part import Part


def list_names(octets: bytes, root: Part, limits: Limits = Limits()) -> Iterator[str]:
    """Yield the names of files in a message: of its parts, and of what is in archives.

    A name may come more than once. Raises Unreadable, also after some names.
    """
    raise NotImplementedError


def walk_all(octets: bytes, root: Part, limits: Limits = Limits()) -> Iterator[tuple[bytes, Part]]:
    """Yield all parts, each with the octets that its offsets point into.

    Unlike ``walk`` it goes into messages that are attached in base64 or quoted-printable as well.
    Raises Unreadable.
    """
    raise NotImplementedError
