"""When a message came: by its topmost Received, else its mailbox, else Date, else its file."""

import calendar
import re

from relay.mime.fields import fields

# RFC 5322 §3.3, with the comments and blanks of the wild: day month year hour:minute[:second] zone.
_DATE = re.compile(
    rb"([0-9]{1,2})[ \t-]+([A-Za-z]{3})[a-z]*[ \t-]+([0-9]{2,4})[ \t]+"
    rb"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?[ \t]*([+-][0-9]{4}|[A-Za-z]{1,5})?"
)
# asctime(), as in the line between two messages of an mbox: Mon Jan  5 08:00:00 [+0100] 2026 [+0100]
_ASCTIME = re.compile(
    rb"([A-Za-z]{3})[ \t]+([0-9]{1,2})[ \t]+([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?[ \t]+"
    rb"(?:([+-][0-9]{4}|[A-Za-z]{1,5})[ \t]+)?([0-9]{4})(?:[ \t]+([+-][0-9]{4}))?"
)
_MONTHS = (b"jan", b"feb", b"mar", b"apr", b"may", b"jun",
           b"jul", b"aug", b"sep", b"oct", b"nov", b"dec")  # fmt: skip
# RFC 5322 §4.3: zones with names. Others mean nothing that is known: UTC.
_ZONES = {b"EST": -5, b"EDT": -4, b"CST": -6, b"CDT": -5, b"MST": -7, b"MDT": -6, b"PST": -8,
          b"PDT": -7}  # fmt: skip


def find_time(head: bytes, stamp: float, changed: float = 0.0) -> float:
    """Return when a message came, seconds since 1970; 0: nobody knows.

    ``head``: its beginning, with CRLF. ``stamp``: what its mailbox says (0: nothing), ``changed``: its
    file's time, which says most often when it was copied.
    """
    date = 0.0
    for name, value in fields(head):
        lower = name.lower()
        if lower == b"received":
            # RFC 5321 §4.4: the date stands behind the last semicolon; the topmost field is the last hop.
            if found := read_date(value.rpartition(b";")[2]):
                return found
        elif lower == b"date" and not date:
            date = read_date(value)
    return stamp or date or changed


def read_date(text: bytes) -> float:
    """Read a date of RFC 5322; 0: there is none in it."""
    found = _DATE.search(text)
    if found is None:
        return 0.0
    year = int(found[3])
    if len(found[3]) < 4:  # §4.3
        year += 2000 if year < 50 and len(found[3]) == 2 else 1900
    return _reckon(year, found[2], found[1], (found[4], found[5], found[6]), found[7])


def read_asctime(line: bytes) -> float:
    """Read the date of a line between two messages of an mbox; 0: there is none in it."""
    found = _ASCTIME.search(line)
    if found is None:
        return 0.0
    clock = (found[3], found[4], found[5])
    return _reckon(int(found[7]), found[1], found[2], clock, found[6] or found[8])


def _reckon(
    year: int,
    month: bytes,
    day: bytes,
    clock: tuple[bytes, bytes, bytes | None],
    zone: bytes | None,
) -> float:
    if month[:3].lower() not in _MONTHS or not 1970 <= year <= 9999:
        return 0.0
    hour, minute, second = (int(part or 0) for part in clock)
    if not 1 <= int(day) <= 31 or hour > 23 or minute > 59 or second > 60:
        return 0.0
    whole = calendar.timegm(
        (year, _MONTHS.index(month[:3].lower()) + 1, int(day), hour, minute, second)
    )
    return max(0.0, float(whole - _find_offset(zone or b"")))


def _find_offset(zone: bytes) -> int:
    """Return the seconds that a zone is ahead of UTC."""
    if zone[:1] in (b"+", b"-"):
        offset = int(zone[1:3]) * 3600 + int(zone[3:5]) * 60
        return -offset if zone[:1] == b"-" else offset
    return _ZONES.get(zone.upper(), 0) * 3600
