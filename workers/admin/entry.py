"""What the index knows of a message, put together from its events, in whatever order they are heard.

Pure. An event of a worker may be heard before that of the ingress: each has its own loop. So an entry
is whatever is known so far, and one that is known in part is good enough to be found.
"""

from collections.abc import Iterable, Mapping
from typing import Any

# What has become of a recipient; what is higher is never undone by what is heard later.
QUEUED, DELIVERED, BOUNCED = 0, 1, 2
OUTCOMES = ("queued", "delivered", "bounced")

# A message's number is the time in its id, ms since 2017, and 22 bits of its chance: 63 bits, that
# sort as ids do. Of a thousand messages a second, one in ten million meets another of its number.
_EPOCH = 1_483_228_800_000
_CHANCE = 22
_REST = 70 - _CHANCE  # bits of an id behind that
_LIMIT = 1 << 63

_RECIPIENTS = 1000  # of a message
_TEXT = 320  # characters of an address, a name
_ENDS = {"delivered": DELIVERED, "bounced": BOUNCED, "deferred": QUEUED}
_KINDS = frozenset(("accepted", *_ENDS))
_DIGITS = bytes.maketrans(b"0123456789ABCDEFGHJKMNPQRSTVWXYZ", b"0123456789abcdefghijklmnopqrstuv")
_NO_DIGITS = bytes.maketrans(b"abcdefghijklmnopqrstuvILO+-_ \t", b"!" * 30)

Event = Mapping[str, Any]
# Of one recipient: outcome, time of the last attempt (ms since 1970), site, source.
Fate = tuple[int, int, str, str]


class Entry:
    """One message. ``people``: its recipients, by address in lower case."""

    __slots__ = (
        "domains",
        "id",
        "message_id",
        "number",
        "people",
        "sender",
        "size",
        "tenant",
        "time",
    )

    def __init__(self, message_id: str, number: int) -> None:
        self.id = message_id
        self.number = number
        self.time: int | None = None  # accepted, ms since 1970; None: that was not heard
        self.tenant = ""
        self.sender: str | None = None
        self.message_id: str | None = None  # as its sender calls it
        self.size: int | None = None
        self.people: dict[str, Fate] = {}
        self.domains: set[str] = set()  # as deliveries name them, where attempts were heard of

    @property
    def outcome(self) -> int:
        """What has become of all of them: queued, while one is; bounced, if one is."""
        fates = {fate[0] for fate in self.people.values()}
        if QUEUED in fates or not fates:
            return QUEUED
        return BOUNCED if BOUNCED in fates else DELIVERED


def read_value(message_id: str) -> int:
    """Return a message id as the number of 120 bits that it is. Raises ValueError for what is no id."""
    if len(message_id) != 24:
        raise ValueError(f"{message_id!r} is not a message id: 24 characters expected")
    digits = message_id.encode("ascii", "replace").translate(_NO_DIGITS).translate(_DIGITS)
    try:
        return int(digits, 32)
    except ValueError:
        raise ValueError(f"{message_id!r} is not a message id") from None


def read_number(message_id: str) -> int:
    """Return the number of a message. Raises ValueError for what is no id."""
    value = read_value(message_id)
    number = ((value >> 70) - _EPOCH << _CHANCE) | (value >> _REST & (1 << _CHANCE) - 1)
    if not -_LIMIT <= number < _LIMIT:
        raise ValueError(f"{message_id!r} is not a message id")
    return number


def number_at(time: float) -> int:
    """Return the lowest number of messages of a time, seconds since 1970."""
    # Nobody's time is so far away; and what has more digits than a float is no number any more.
    milliseconds = int(max(-1e18, min(1e18, time * 1000)))
    return max(-_LIMIT, min(_LIMIT - 1, milliseconds - _EPOCH << _CHANCE))


def tell_time(number: int) -> float:
    """Return when the message of a number came, seconds since 1970."""
    return ((number >> _CHANCE) + _EPOCH) / 1000


def fold(events: Iterable[Event]) -> list[Entry]:
    """Make entries of events. What makes no sense is left out."""
    entries: dict[str, Entry] = {}
    for event in events:
        name = event.get("event")
        if name not in _KINDS:
            continue
        try:
            identity = event["id"]
            entry = entries.get(identity)
            if entry is None:
                entries[identity] = entry = Entry(identity, read_number(identity))
            if name == "accepted":
                _accept(entry, event)
            else:
                _attempt(entry, event, name)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            continue
    return list(entries.values())


def _accept(entry: Entry, event: Event) -> None:
    entry.time = _whole(event["time"] * 1000)
    entry.tenant = event["tenant"][:_TEXT]
    entry.sender = event["sender"][:_TEXT]
    entry.size = _whole(event["size"])
    if "message_id" in event:
        entry.message_id = strip_brackets(event["message_id"])[:_TEXT]
    people = entry.people
    for address in event["recipients"][:_RECIPIENTS]:
        people.setdefault(address.lower()[:_TEXT], (QUEUED, 0, "", ""))


def _attempt(entry: Entry, event: Event, name: str) -> None:
    time = _whole(event["time"] * 1000)
    site, source = event["site"][:_TEXT], event["source"][:_TEXT]
    entry.tenant = entry.tenant or event["tenant"][:_TEXT]
    entry.domains.add(event["domain"][:_TEXT])
    people = entry.people
    for person in event["recipients"][:_RECIPIENTS]:
        outcome = _ENDS[person["outcome"]]
        if outcome == QUEUED and name != "deferred":
            outcome = BOUNCED  # its time is up; "deferred" is the last thing that a host said
        address = person["address"].lower()[:_TEXT]
        before = people.get(address)
        if before is None or outcome or not before[0]:
            people[address] = (outcome, time, site, source)


def _whole(number: float) -> int:
    """Return a number as the file can hold it. Raises ValueError, OverflowError."""
    if not -_LIMIT <= number < _LIMIT:
        raise ValueError(number)
    return int(number)


def strip_brackets(name: str) -> str:
    """Return a Message-ID without what stands around it: people write it either way."""
    return name.strip().removeprefix("<").removesuffix(">")
