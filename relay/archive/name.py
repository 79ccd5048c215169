"""Names of objects: ``<tenant>/<YYYY-MM-DD>/<message id>.mail``.

A message id begins with its time (relay/model.py), so the day needs no index. Names that begin with
a dot are the archive's own: ``.tmp/`` and ``.holds/``; no tenant has such a name
(relay/config/archive.py).
"""

import re
import time
from dataclasses import dataclass

SUFFIX = ".mail"
OWN = "."  # what begins with it belongs to no tenant

_ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{24}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# Crockford's digits are in the order of Python's, and leave some letters out.
_DIGITS = str.maketrans("ABCDEFGHJKMNPQRSTVWXYZ", "ABCDEFGHIJKLMNOPQRSTUV")


def find_time(message_id: str) -> float:
    """Return when a message came, seconds since 1970. Raises ValueError: that is no message id."""
    if not _ID.fullmatch(message_id):
        raise ValueError(f"{message_id!r} is not a message id: 24 letters and digits expected")
    return int(message_id[:10].translate(_DIGITS), 32) / 1000


def format_day(moment: float) -> str:
    """Return the day of a time, in UTC: "2026-07-31"."""
    return time.strftime("%Y-%m-%d", time.gmtime(moment))


def is_day(text: str) -> bool:
    """Say whether a folder is one of a day."""
    return bool(_DAY.fullmatch(text))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message is kept."""

    tenant: str
    day: str
    message_id: str

    @property
    def name(self) -> str:
        """The object's name, without the prefix of a bucket."""
        return f"{self.tenant}/{self.day}/{self.message_id}{SUFFIX}"

    @property
    def time(self) -> float:
        """When the message came, seconds since 1970."""
        return find_time(self.message_id)


def find_place(tenant: str, message_id: str) -> Place:
    """Return where a message of a tenant is kept. Raises ValueError: that is no message id."""
    day = format_day(find_time(message_id))
    if not is_day(day):
        raise ValueError(f"{message_id!r} is not a message id: its time is {day}")
    return Place(tenant, day, message_id)


def read_name(tenant: str, day: str, file: str) -> Place | None:
    """Return what is kept under this name in a day's folder; None: it is none of ours."""
    message_id = file.removesuffix(SUFFIX)
    if message_id == file or not _ID.fullmatch(message_id):
        return None
    return Place(tenant, day, message_id)
