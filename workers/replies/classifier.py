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

import msgspec
import re2  # type: ignore[import-untyped]

from workers.replies.label import Action, Label, Reading, choose_action
from workers.replies.rule import Book, Families, Written, index_families, load_book
from workers.replies.wording import Wording, make_options

MAX_TEXT = 1024  # octets of a reply that are read; the meaning stands at its beginning
# Before MAIL nothing has been said about a message, so no answer ends one (workers/classify.py).
_OPENING = frozenset({"CONNECT", "EHLO", "HELO", "STARTTLS"})


class _Rule:
    """A rule with its conditions in the form in which they are asked."""

    __slots__ = (
        "_also", "_codes", "_commands", "_family", "_only_there", "_readings", "_status", "_text",
    )  # fmt: skip

    def __init__(self, written: Written, text: dict[int, Wording], also: list[Wording]) -> None:
        self._family = written.provider
        self._only_there = written.only_there
        self._codes = written.codes
        self._status = frozenset(written.status)
        self._commands = frozenset(written.commands)
        self._text = text  # by the numbers of the patterns
        self._also = also
        self._readings = tuple(_make_reading(written, permanent=final) for final in (False, True))

    def fits(self, code: str, status: str, command: str, family: str) -> bool:
        """Tell whether all holds that is not about the text."""
        return (
            (not self._family or self._family == family or not (family or self._only_there))
            and (not self._codes or code.startswith(self._codes))
            and (not self._status or status in self._status or _widen(status) in self._status)
            and (not self._commands or not command or command in self._commands)
        )

    def is_in(self, text: bytes, possible: list[int]) -> bool:
        """Tell whether the text says it. ``possible``: the patterns whose words are all there."""
        if self._text and not any(self._text[number].is_in(text) for number in possible):
            return False
        return not self._also or any(one.is_in(text) for one in self._also)

    def read(self, permanent: bool) -> Reading:
        return self._readings[permanent]


def _make_reading(written: Written, *, permanent: bool) -> Reading:
    blame = written.whose
    action = written.action or choose_action(written.label, blame, permanent=permanent)
    return Reading(written.label, blame, action, written.name, permanent, written.rest_seconds)


def _widen(status: str) -> str:
    return status.partition(".")[0] + ".*"


_NOTHING = Written("nothing-fits", Label.UNKNOWN, "the reply does not say")


class Classifier:
    """Rules, compiled once."""

    def __init__(self, book: Book) -> None:
        """Raises ValueError when a pattern is none of RE2's."""
        self._families: Families = index_families(book)
        self._words = re2.Filter()
        self._rules: list[_Rule] = []
        self._owners: list[int] = []  # by the number of a pattern: the rule
        # Rules without text, by the enhanced code that they want; "": by none.
        self._bare: dict[str, list[int]] = {}
        for place, written in enumerate(book.rule):
            text = {self._add(one, place): Wording(one) for one in written.text}
            self._rules.append(_Rule(written, text, [Wording(one) for one in written.also]))
            for status in () if text else written.status or ("",):
                self._bare.setdefault(status, []).append(place)
        self._words.Compile()
        self._nothing = _Rule(_NOTHING, {}, [])

    def _add(self, pattern: str, place: int) -> int:
        """Make a pattern's words known; return its number."""
        self._owners.append(place)
        try:
            number: int = self._words.Add(pattern, make_options())
        except re2.error:
            raise ValueError(f"no pattern of RE2's: {pattern}") from None
        return number

    def read(self, code: int, status: str, text: str, provider: str, command: str) -> Reading:
        """Return what a reply says. Never raises."""
        subject = status.partition(".")[2]
        digits = f"{code:d}" if code > 0 else ""
        family = self._families.find(provider)
        searched = _prepare(text)
        possible = self._find_possible(searched, subject)
        decided = self._nothing
        for place in sorted(possible):
            rule = self._rules[place]
            if rule.fits(digits, subject, command, family) and rule.is_in(
                searched, possible[place]
            ):
                decided = rule
                break
        reading = decided.read(_is_permanent(code, status))
        if reading.action is Action.BOUNCE and (command in _OPENING or code == 503):
            # A session was refused: that says nothing of a message, which waits.
            return msgspec.structs.replace(reading, action=Action.RETRY)
        return reading

    def _find_possible(self, text: bytes, subject: str) -> dict[int, list[int]]:
        """Return the rules that may fit, with the patterns that may be found."""
        possible: dict[int, list[int]] = {}
        for number in self._words.Match(text, potential=True) or ():
            possible.setdefault(self._owners[number], []).append(number)
        for status in ("", subject, _widen(subject)) if subject else ("",):
            for place in self._bare.get(status, ()):
                possible[place] = []
        return possible


def _prepare(text: str) -> bytes:
    """Return what patterns are searched in: blanks made one, addresses made "<@>".

    Whoever has the address spam@blocked.example says nothing by it.
    """
    text = text[:MAX_TEXT]
    words = text.split()
    if "@" in text:
        words = [_hide_address(word) if "@" in word else word for word in words]
    return " ".join(words).encode("utf-8", "replace")[:MAX_TEXT]


def _hide_address(word: str) -> str:
    """ "<bob@example.com>:" becomes "<@>:"; what stands before the address goes with it."""
    return "<@>" + (word.rpartition(">")[2] if ">" in word else "")


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
