"""What somebody wants to find in the index, and how its answer is told. Pure."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from workers.admin.entry import OUTCOMES, Entry, number_at, read_number
from workers.admin.terms import (
    DOMAIN,
    RECIPIENT,
    SENDER,
    SENDER_DOMAIN,
    TENANT,
    make_address_term,
    make_domain_term,
    make_message_id_term,
    take_domain,
)

MOST = 500  # messages of a page
_LONGEST = 1000  # characters of a word
_END = "\U0010ffff"


class Question(msgspec.Struct, frozen=True):
    """Which messages. All that is given must hold; "" is not given.

    ``sender`` and ``recipient`` are addresses, or what they begin with ("ann*"), or all of a domain
    ("@example.com"); the null sender is "<>". ``start`` and ``end`` are seconds since 1970.
    """

    id: str = ""
    message_id: str = ""
    sender: str = ""
    recipient: str = ""
    domain: str = ""  # of a recipient
    tenant: str = ""
    outcome: str = ""
    start: float | None = None
    end: float | None = None
    limit: int = 50
    after: str = ""  # ``next`` of the page before


@dataclass(frozen=True)
class Wanted:
    """A question as the index has it: words to look up, and what else must hold.

    The first of ``terms`` is the rarest, by its kind; ``prefixes`` are of words, too.
    """

    number: int | None
    terms: tuple[str, ...]
    prefixes: tuple[str, ...]
    outcome: int | None
    low: int
    high: int
    limit: int


@dataclass(frozen=True)
class Place:
    """Where a page ends: ``bucket`` (None: without a word, all buckets are one), and the last number."""

    bucket: int | None
    number: int


def read_question(asked: Question) -> Wanted:
    """Raises ValueError, with what is wrong, for people."""
    if not 1 <= asked.limit <= MOST:
        raise ValueError(f"limit: expected 1 to {MOST}")
    if asked.outcome and asked.outcome not in OUTCOMES:
        raise ValueError(f"outcome: expected one of {', '.join(OUTCOMES)}")
    for name in ("message_id", "sender", "recipient", "domain", "tenant"):
        if len(getattr(asked, name)) > _LONGEST:
            raise ValueError(f"{name}: more than {_LONGEST} characters")
    exact, prefixes = _read_words(asked)
    return Wanted(
        number=_read_id(asked.id),
        terms=tuple(exact),
        prefixes=tuple(prefixes),
        outcome=OUTCOMES.index(asked.outcome) if asked.outcome else None,
        low=number_at(_check_time("from", asked.start, 0.0)),
        high=number_at(_check_time("to", asked.end, 1e12)),
        limit=asked.limit,
    )


def _read_id(text: str) -> int | None:
    if not text:
        return None
    try:
        return read_number(text.partition(".")[0].upper())
    except ValueError as error:
        raise ValueError(f"id: {error}") from None


def _check_time(name: str, given: float | None, default: float) -> float:
    if given is None:
        return default
    if not math.isfinite(given):
        raise ValueError(f"{name}: expected seconds since 1970")
    return given


def _read_words(asked: Question) -> tuple[list[str], list[str]]:
    """Return words and prefixes, each the rarest first."""
    exact: list[str] = []
    prefixes: list[str] = []
    if asked.message_id:
        exact.append(make_message_id_term(asked.message_id))
    for kind, of_domain, wanted in (
        (RECIPIENT, DOMAIN, asked.recipient),
        (SENDER, SENDER_DOMAIN, asked.sender),
    ):
        if wanted.endswith("*"):
            if wanted.startswith("@"):
                raise ValueError(f"{wanted}: expected a whole domain behind @")
            prefixes += [kind + wanted[:-1].lower()] if wanted != "*" else []
        elif wanted:
            exact.append(make_address_term(kind, of_domain, wanted))
    # An address is rarer than a domain, whoever's it is.
    exact.sort(key=lambda term: term[0] in (DOMAIN, SENDER_DOMAIN))
    if asked.domain:
        exact.append(make_domain_term(asked.domain))
    if asked.tenant:
        exact.append(TENANT + asked.tenant)
    return exact, prefixes


def end_prefix(prefix: str) -> str:
    """Return what is behind everything that begins so."""
    return prefix + _END


# -- pages ----------------------------------------------------------------------------------------


def read_place(text: str) -> Place | None:
    """Read ``after``. Raises ValueError."""
    if not text:
        return None
    bucket, dot, number = text.rpartition(".")
    try:
        place = Place(int(bucket) if dot else None, int(number))
        if max(abs(place.bucket or 0), abs(place.number)) >= 1 << 63:
            raise ValueError(text)
        return place
    except ValueError:
        raise ValueError("after: expected `next` of the page before") from None


def spell_place(place: Place | None) -> str | None:
    """Return ``next``: what ``read_place`` reads."""
    if place is None:
        return None
    return str(place.number) if place.bucket is None else f"{place.bucket}.{place.number}"


def describe_entry(entry: Entry, time: float) -> dict[str, Any]:
    """Return a message as a page has it, of what its events say."""
    return {
        "id": entry.id,
        "time": entry.time / 1000 if entry.time is not None else time,
        "tenant": entry.tenant,
        "sender": entry.sender,
        "recipients": len(entry.people),
        "domains": list_domains(entry.people),
        "message_id": entry.message_id,
        "size": entry.size,
        "outcome": OUTCOMES[entry.outcome],
    }


def list_domains(addresses: Iterable[str]) -> list[str]:
    """Return the domains of addresses, each once, in their order."""
    return list(dict.fromkeys(filter(None, map(take_domain, addresses))))
