"""Looking for messages: through the days of an archive, the newest first.

There is no index beside the objects, so that there is none that could be wrong: a search by anything
but tenant, day and id reads the first line of each object in its span. What it holds in memory is
the names of one day.
"""

import fnmatch
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import cached_property, partial
from re import IGNORECASE, Pattern
from re import compile as compile_pattern

from relay.archive.entry import Entry
from relay.archive.name import Place
from relay.archive.together import together
from relay.archive.vault import AT_ONCE, Found, Vault


@dataclass(frozen=True)
class Query:
    """What is looked for. What is empty stands for all; all that is given must match.

    Addresses, Message-ID and rule are compared without case; a star stands for any characters.
    """

    tenant: str = ""
    first: str = ""  # the first day, and the last
    last: str = ""
    sender: str = ""
    recipient: str = ""
    message_id: str = ""  # of the header; with or without <>
    rule: str = ""

    def covers(self, day: str) -> bool:
        """Say whether a day is in the span."""
        return self.first <= day and (not self.last or day <= self.last)

    def matches(self, entry: Entry) -> bool:
        """Say whether a message is meant; tenant and day are those of its place."""
        return (
            _fits(self._sender, entry.sender)
            and (not self.recipient or any(_fits(self._recipient, r) for r in entry.recipients))
            and _fits(self._message_id, entry.message_id.strip("<>"))
            and _fits(self._rule, entry.rule)
        )

    @cached_property
    def _sender(self) -> Pattern[str] | None:
        # "<>" is how SMTP writes the null sender, which is "" in an entry.
        return compile_pattern(r"\Z") if self.sender == "<>" else _translate(self.sender)

    @cached_property
    def _recipient(self) -> Pattern[str] | None:
        return _translate(self.recipient)

    @cached_property
    def _message_id(self) -> Pattern[str] | None:
        return _translate(self.message_id.strip("<>"))

    @cached_property
    def _rule(self) -> Pattern[str] | None:
        return _translate(self.rule)


@dataclass
class Progress:
    """How far a search is."""

    looked: int = 0  # objects
    day: str = ""  # the one that it is at
    found: int = 0  # for whoever counts


def _translate(pattern: str) -> Pattern[str] | None:
    # Only the star is special: [ and ? are characters of addresses.
    if not pattern:
        return None
    literal = pattern.replace("[", "[[]").replace("?", "[?]")
    return compile_pattern(fnmatch.translate(literal), IGNORECASE)


def _fits(pattern: Pattern[str] | None, text: str) -> bool:
    return pattern is None or pattern.match(text) is not None


async def search(vault: Vault, query: Query, progress: Progress) -> AsyncGenerator[Found, None]:
    """Yield what matches, the newest first, and what is damaged, which nobody can tell.

    ``progress`` is kept up to date. Close it when you stop early (``contextlib.aclosing``). Raises
    ArchiveUnavailable.
    """
    tenants = await find_days(vault, query)
    days = sorted({day for days in tenants.values() for day in days}, reverse=True)
    for day in days:
        progress.day = day
        places = await _list_day(vault, day, [t for t, days in tenants.items() if day in days])
        for start in range(0, len(places), AT_ONCE):
            batch = places[start : start + AT_ONCE]
            for found in await vault.read_entries(batch):
                if found.entry is None or query.matches(found.entry):
                    yield found
            progress.looked += len(batch)


async def find_days(vault: Vault, query: Query) -> dict[str, list[str]]:
    """Return, for each tenant that is meant, the days in the span, in order."""
    tenants = [query.tenant] if query.tenant else await vault.list_tenants()
    days: dict[str, list[str]] = {}
    for start in range(0, len(tenants), AT_ONCE):
        batch = tenants[start : start + AT_ONCE]
        listed = await together([partial(vault.list_days, tenant) for tenant in batch])
        for tenant, found in zip(batch, listed, strict=True):
            days[tenant] = [day for day in found if query.covers(day)]
    return days


async def _list_day(vault: Vault, day: str, tenants: list[str]) -> list[Place]:
    places = [place for tenant in tenants for place in await vault.list_places(tenant, day)]
    places.sort(key=lambda place: place.message_id, reverse=True)
    return places
