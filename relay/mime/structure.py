"""Finds the parts of a message."""

from relay.mime.limits import Limits
from relay.mime.part import Part


def read_message(octets: bytes, limits: Limits = Limits()) -> Part:
    """Take a message apart. Raises Unreadable."""
    raise NotImplementedError
