"""One rule of rules.toml: what a reply must be for it to fit, and what it then says."""

import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import NamedTuple

import msgspec

from relay.config.units import parse_seconds
from relay.model import Blame
from workers.replies.label import Action, Label, find_blame


class Written(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A ``[[rule]]`` as it is written. What is left empty always fits.

    ``provider``: a family; such a rule is passed over when the provider is known and another.
    ``only_there``: the words are not distinctive: it is passed over also when nobody knows the
    provider. ``codes``: how the reply code begins ("4", "552"). ``status``: the enhanced code without
    its class ("1.1", "7.*"). ``commands``: what was answered; fits also when nobody knows.
    ``text``: patterns, one of which must be found; ``also``: others, one of which must be, too.
    ``source``: where the fact is known from.
    """

    name: str
    label: Label
    source: str
    blame: Blame | None = None
    action: Action | None = None
    provider: str = ""
    only_there: bool = False
    codes: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    rest: str = "0s"

    @property
    def whose(self) -> Blame:
        """The blame that is written, or the label's own."""
        return self.blame or find_blame(self.label)

    @property
    def rest_seconds(self) -> float:
        """``rest`` in seconds. Raises ValueError when it is no duration."""
        return float(parse_seconds(self.rest))


class Book(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of rules.toml. ``families``: other names of providers, by the name in rules."""

    families: Mapping[str, tuple[str, ...]]
    rule: tuple[Written, ...]


class Families(NamedTuple):
    """Which family a provider's name belongs to."""

    names: dict[str, str]

    def find(self, provider: str) -> str:
        """Return the family; "" for a provider that has no rules of its own."""
        return self.names.get(provider, "")


def read_book(text: str) -> Book:
    """Return the rules of a TOML document. Raises ValueError, in words for who wrote it."""
    try:
        book = msgspec.convert(tomllib.loads(text), Book)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ValueError(str(error)) from None
    seen: set[str] = set()
    for rule in book.rule:
        if rule.name in seen:
            raise ValueError(f"two rules have the name {rule.name}")
        if rule.provider and rule.provider not in book.families:
            raise ValueError(f"rule {rule.name}: no family {rule.provider!r}")
        if rule.also and not rule.text:
            raise ValueError(f"rule {rule.name}: also without text")
        if not rule.source:
            raise ValueError(f"rule {rule.name}: no source")
        _ = rule.rest_seconds
        seen.add(rule.name)
    return book


def load_book() -> Book:
    """Return the rules that are shipped."""
    return read_book(resources.files("workers.replies").joinpath("rules.toml").read_text("utf-8"))


def index_families(book: Book) -> Families:
    """Return all names of all families."""
    names = {family: family for family in book.families}
    for family, others in book.families.items():
        names.update(dict.fromkeys(others, family))
    return Families(names)
