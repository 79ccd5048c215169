"""What a reply means: the first rule that fits, found without trying them all.

A rule's patterns cannot match where none of the words stands that they are made of. So all these words
of all rules are one automaton (RE2's Filter), which goes over the text once and names the few rules
that are possible; these are tried in their order, with those that need no text among them, and the
first whose conditions hold decides. One automaton of the patterns themselves would tell more in that
one pass, but its states are as many as there are texts: each new text would wait for new ones, a
millisecond long and more. RE2 never goes back, so no text makes a search slow.

The first digit of the code has the last word on whether it is for good (RFC 5321 §4.2.1), and the
enhanced code's where there is no other; a text alone never is.
"""

import functools
import re
from typing import NamedTuple

import msgspec
import re2  # type: ignore[import-untyped]

from workers.replies.label import Action, Label, Reading, choose_action
from workers.replies.rule import Book, Families, Written, index_families, load_book
from workers.replies.wording import Wording, make_options

# Octets of a reply that are read. RFC 5321 §4.5.3.1.5 allows a line no more, and what follows in longer
# ones is for the host's own people.
MAX_TEXT = 512
_REMEMBERED = 2048  # replies, of some hundred octets each
# qmail's way: "sorry, no mailbox here by that name (#5.1.1)".
_LATE = re.compile(r"#[245]\.([0-9]\.[0-9]{1,3})(?![0-9.])")
# Before MAIL nothing has been said about a message, so no answer ends one (workers/classify.py).
_OPENING = frozenset({"CONNECT", "EHLO", "HELO", "STARTTLS"})


class _Rule:
    """A rule with its conditions in the form in which they are asked."""

    __slots__ = (
        "_also", "_codes", "_commands", "_family", "_only_there", "_readings", "_status",
    )  # fmt: skip

    def __init__(self, written: Written) -> None:
        self._family = written.provider
        self._only_there = written.only_there
        self._codes = written.codes
        self._status = frozenset(written.status)
        self._commands = frozenset(written.commands)
        self._also = Wording("|".join(written.also)) if written.also else None
        self._readings = tuple(_make_reading(written, permanent=final) for final in (False, True))

    def fits(self, asked: "_Asked") -> bool:
        """Tell whether all holds that is not about the text."""
        return (
            (
                not self._family
                or self._family == asked.family
                or not (asked.family or self._only_there)
            )
            and (not self._codes or asked.code.startswith(self._codes))
            and (
                not self._status
                or asked.subject in self._status
                or _widen(asked.subject) in self._status
            )
            and (not self._commands or not asked.command or asked.command in self._commands)
        )

    def agrees(self, text: bytes) -> bool:
        """Tell whether one of ``also`` is there, too."""
        return self._also is None or self._also.is_in(text)

    def read(self, permanent: bool) -> Reading:
        return self._readings[permanent]


class _Asked(NamedTuple):
    """A reply in the form in which rules look at it."""

    code: str  # digits, or ""
    subject: str  # the enhanced code without its class, or ""
    text: bytes
    family: str
    command: str


def _make_reading(written: Written, *, permanent: bool) -> Reading:
    blame = written.whose
    action = written.action or choose_action(written.label, blame, permanent=permanent)
    return Reading(written.label, blame, action, written.name, permanent, written.rest_seconds)


def _find_subject(text: str) -> str:
    """Return the enhanced code of those who write it into the text, without its class; "" if none."""
    found = _LATE.search(text, 0, MAX_TEXT) if "#" in text else None
    return found[1] if found else ""


def _widen(status: str) -> str:
    return status.partition(".")[0] + ".*"


_NOTHING = Written("nothing-fits", Label.UNKNOWN, "the reply does not say")


class Classifier:
    """Rules, compiled once."""

    def __init__(self, book: Book) -> None:
        """Raises ValueError when a pattern is none of RE2's."""
        self._families: Families = index_families(book)
        self._words = re2.Filter()
        # What is tried, in order: a rule and one of its patterns, None for a rule without.
        self._tries: list[tuple[_Rule, Wording | None]] = []
        self._places: list[int] = []  # among the tries, by a pattern's number
        # The same for rules without a pattern, by the enhanced code that they want; "": by none.
        self._bare: dict[str, list[int]] = {}
        for written in book.rule:
            self._add(written)
        self._words.Compile()
        self._nothing = _Rule(_NOTHING)
        # Hosts say the same thousands of times over; only the addresses, which are gone here, differ.
        self._remember = functools.lru_cache(maxsize=_REMEMBERED)(self._decide)

    def _add(self, written: Written) -> None:
        rule = _Rule(written)
        for pattern in written.text:
            wording = Wording(pattern)
            self._words.Add(pattern, make_options())
            self._places.append(len(self._tries))
            self._tries.append((rule, wording))
        if not written.text:
            for status in written.status or ("",):
                self._bare.setdefault(status, []).append(len(self._tries))
            self._tries.append((rule, None))

    def read(self, code: int, status: str, text: str, provider: str, command: str) -> Reading:
        """Return what a reply says. Never raises."""
        asked = self._ask(code, status, text, provider, command)
        reading = self._remember(asked).read(_is_permanent(code, status))
        if reading.action is Action.BOUNCE and (command in _OPENING or code == 503):
            # A session was refused: that says nothing of a message, which waits.
            return msgspec.structs.replace(reading, action=Action.RETRY)
        return reading

    def _ask(self, code: int, status: str, text: str, provider: str, command: str) -> _Asked:
        return _Asked(
            f"{code:d}" if code > 0 else "",
            status.partition(".")[2] if status else _find_subject(text),
            _prepare(text),
            self._families.find(provider),
            command,
        )

    def has_rules(self, provider: str) -> bool:
        """Tell whether there are rules for a provider of this name."""
        return bool(self._families.find(provider))

    def _decide(self, asked: _Asked) -> _Rule:
        """Return the first rule that fits."""
        for place in self._find_possible(asked):
            rule, wording = self._tries[place]
            if (
                rule.fits(asked)
                and (wording is None or wording.is_in(asked.text))
                and rule.agrees(asked.text)
            ):
                return rule
        return self._nothing

    def _find_possible(self, asked: _Asked) -> list[int]:
        """Return the places of what may fit, in order."""
        found = [self._places[n] for n in self._words.Match(asked.text, potential=True) or ()]
        found += self._bare.get("", ())
        if asked.subject:
            found += self._bare.get(asked.subject, ())
            found += self._bare.get(_widen(asked.subject), ())
        found.sort()
        return found


def _prepare(text: str) -> bytes:
    """Return what patterns are searched in: blanks made one, addresses made "<@>"."""
    text = text[:MAX_TEXT]
    if "@" in text:
        text = _hide_addresses(text)
    if "  " in text or not text.isprintable():
        text = " ".join(text.split())
    return text.encode("utf-8", "replace")[:MAX_TEXT]


def _hide_addresses(text: str) -> str:
    """Make "<bob@example.com>: no" into "<@>: no".

    Whoever has the address spam@blocked.example says nothing by it. All that stands before it without a
    blank goes, too, and what follows it unless it is in angle brackets. Of a link with an address in its
    query, what stands before the query is kept: it says which page explains the reply.
    """
    words = text.split(" ")
    for number, word in enumerate(words):
        if "@" in word:
            link = word.partition("@")[0].rpartition("?")[0] if "://" in word else ""
            words[number] = link + "<@>" + (word.rpartition(">")[2] if ">" in word else "")
    return " ".join(words)


def _is_permanent(code: int, status: str) -> bool:
    if code > 0:
        return code // 100 == 5
    return status.startswith("5.")


@functools.cache
def load_classifier() -> Classifier:
    """Return the classifier of the rules that are shipped; compiled at the first call."""
    return Classifier(load_book())


def read_reply(
    code: int, status: str, text: str, *, provider: str = "", command: str = ""
) -> Reading:
    """Return what a reply says. Never raises.

    ``code``: 0 when there is none; ``status``: the enhanced code, or ""; ``provider``: the site's
    name, as in workers/providers.toml, or ""; ``command``: what was answered, as in
    ``classify_reply``, or "".
    """
    return load_classifier().read(code, status, text, provider, command)


def has_rules(provider: str) -> bool:
    """Tell whether there are rules for a provider of this name, and not only those for all."""
    return load_classifier().has_rules(provider)
