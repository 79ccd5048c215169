"""What is counted while mail is sent: messages, recipients, times, replies, and all of it over time."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from relay.smtp.reply import Reply
from workers.replay.histogram import Histogram
from workers.replay.journal import Ending
from workers.replay.line import Answer
from workers.replay.parcel import Parcel
from workers.replies.classifier import read_reply

_SLOTS = 600  # of the course over time; with more, two become one
_REPLIES = 500  # different ones that are told apart
_FAILED = 1_000  # messages that are listed
_ADDRESS = re.compile(r"<?[^\s<>]+@[^\s<>]+>?")
_NUMBERED = re.compile(r"(?=\S*[0-9]\S*[0-9])[A-Za-z0-9._:/<>\[\]-]{6,}")
_SUMMARY = 300  # characters of a reply


class Said(NamedTuple):
    """A reply without what differs from message to message."""

    command: str
    code: int
    status: str
    text: str
    label: str


@dataclass(slots=True)
class Slot:
    """A stretch of time."""

    accepted: int = 0
    failed: int = 0  # tries that brought something else than yes
    octets: int = 0
    dot: Histogram = field(default_factory=Histogram)

    def merge(self, other: "Slot") -> None:
        """Count all of another one's, too."""
        self.accepted += other.accepted
        self.failed += other.failed
        self.octets += other.octets
        self.dot.merge(other.dot)


class Course:
    """What happened over time, in slots of ``step`` seconds; at most _SLOTS of them."""

    def __init__(self) -> None:
        self.step = 1.0
        self.slots: list[Slot] = []

    def find(self, elapsed: float) -> Slot:
        """Return the slot of a time, seconds since the start."""
        while elapsed >= self.step * _SLOTS:
            self._halve()
        place = int(elapsed / self.step)
        while len(self.slots) <= place:
            self.slots.append(Slot())
        return self.slots[place]

    def _halve(self) -> None:
        for first, second in zip(self.slots[::2], self.slots[1::2], strict=False):
            first.merge(second)
        del self.slots[1::2]
        self.step *= 2


@dataclass(slots=True)
class Tally:
    """One replay, counted."""

    taken: int = 0  # messages of the corpus that are, or were, to be sent
    messages: Counter[str] = field(default_factory=Counter)  # by how they ended
    earlier: Counter[str] = field(default_factory=Counter)  # the same, of what the journal knew
    recipients: Counter[str] = field(default_factory=Counter)
    octets: int = 0  # of messages that were accepted
    tries: int = 0
    retries: int = 0
    unknown: int = 0  # tries whose answer did not come
    connections: Counter[str] = field(default_factory=Counter)  # by what protects them; "": nothing
    not_opened: int = 0
    replies: Counter[Said] = field(default_factory=Counter)
    failed: list[dict[str, object]] = field(default_factory=list)
    opening: Histogram = field(default_factory=Histogram)
    dot: Histogram = field(default_factory=Histogram)
    whole: Histogram = field(default_factory=Histogram)
    lag: float = 0.0  # seconds that a message went later than it was due, at most
    course: Course = field(default_factory=Course)
    position: int = 0  # octets of the corpus that are dealt with

    @property
    def ended(self) -> int:
        """Messages that are done, those of earlier runs included."""
        return sum(self.messages.values()) + sum(self.earlier.values())

    @property
    def is_clean(self) -> bool:
        """Tell whether all that was to be sent was accepted, for everybody."""
        return self.messages["accepted"] + self.earlier["accepted"] == self.taken

    def note_answer(self, answer: Answer, parcel: Parcel, elapsed: float) -> None:
        """Count a try. ``elapsed``: seconds since the start."""
        self.tries += 1
        self.unknown += answer.unknown
        slot = self.course.find(elapsed)
        if answer.opening is not None:
            self.opening.add(answer.opening)
        if answer.dot is not None:
            self.dot.add(answer.dot)
            slot.dot.add(answer.dot)
        if answer.whole is not None:
            self.whole.add(answer.whole)
        if any(result.accepted for result in answer.results):
            slot.accepted += 1
            slot.octets += len(parcel.content)
        else:
            slot.failed += 1
        for result in answer.results:
            self.note_reply(result.command, result.reply, is_accepted=result.accepted)

    def note_reply(self, command: str, reply: Reply, *, is_accepted: bool = False) -> None:
        """Count a reply."""
        label = "" if is_accepted else _label(command, reply)
        said = Said(command, reply.code, reply.status, _summarise(reply.text), label)
        if said not in self.replies and len(self.replies) >= _REPLIES:
            said = Said(command, reply.code, "", "(others)", "")
        self.replies[said] += 1

    def note_end(self, parcel: Parcel, word: str) -> None:
        """Count a message that is done."""
        self.messages[word] += 1
        self.position = max(self.position, parcel.position)
        if word == "accepted":
            self.octets += len(parcel.content)
        elif len(self.failed) < _FAILED:
            self.failed.append(
                {"name": parcel.name, "ended": word, "tries": parcel.tries, "reply": parcel.why}
            )


# How a message ended, and what the journal has for it.
ENDINGS: dict[str, Ending] = {"accepted": "A", "partly": "P", "refused": "R", "failed": "F"}
WORDS: dict[Ending, str] = {letter: word for word, letter in ENDINGS.items()}


def _label(command: str, reply: Reply) -> str:
    return read_reply(reply.code, reply.status, reply.text, command=command).label


def _summarise(text: str) -> str:
    """Return a reply without addresses and what has a number in it: ids, times, networks."""
    return _NUMBERED.sub("#", _ADDRESS.sub("<@>", text))[:_SUMMARY]


def describe_replies(replies: Iterable[tuple[Said, int]]) -> list[dict[str, object]]:
    """Return replies and counts as a report has them."""
    return [{"count": count, **said._asdict()} for said, count in replies]
