"""A tenant's share of what receivers hold against the sources that it has in common with others.

Counted over all workers, in slots of a window that slides, on the store's clock: recipients tried, and
of those the ones that nobody has, that were refused for what was in the message, and that complained.
Shares of these slow a tenant, or hold it (``reputation.tenant``); scripts/gate/share.lua decides, so
that all agree, and tells the one whose call changed something.

A share that slows ends by itself, when it is below four fifths of its threshold. So does one that
holds, but a tenant that is held sends nothing: it takes until what was counted leaves the window,
or an operator forgets it (``clear``; `outgate resume --tenant`).

If a worker dies with counts that it has not added yet, a few seconds of them are lost.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from relay.config.schema import TenantShare
from relay.store.keys import WAKE_CHANNEL, find_shard, make_key
from relay.store.link import Link, Part, Pending, Reply

_BATCH = 100  # tenants of one call: a script keeps others waiting
_KINDS = ("", "unknown users", "content refused", "complaints")
_WORDS = {"slow": "slowed", "hold": "held"}
_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))

Measure = Literal["", "slow", "hold"]


class Counts(NamedTuple):
    """What hosts, and their users, said of a tenant's recipients."""

    tried: int = 0
    unknown: int = 0
    content: int = 0  # refused as spam or malware
    complaints: int = 0


NONE = Counts()


@dataclass(frozen=True, slots=True)
class State:
    """What follows for a tenant: "" nothing, "slow" or "hold"; and why, for people.

    ``since``: seconds since 1970, on the store's clock; 0.0: never was anything. ``changed``: the
    call that has brought this has changed it, and whoever made the call should tell.
    """

    state: Measure = ""
    reason: str = ""
    since: float = 0.0
    counts: Counts = NONE
    changed: bool = False


class Shares:
    """The shares of all tenants, over one link.

    All of it raises StoreUnavailable and StoreError, as the link does.
    """

    def __init__(self, link: Link, settings: TenantShare) -> None:
        self._link = link
        self._settings = settings

    async def add(self, tenant: str, counts: Counts) -> State:
        """Count, and return what follows."""
        return (await self._ask({tenant: counts}, decides=True))[tenant]

    async def add_all(self, counts: Mapping[str, Counts]) -> dict[str, State]:
        """Count for several tenants. For those of one ``batch`` it is all or nothing."""
        return await self._ask(counts, decides=True)

    async def settle(self, tenants: Iterable[str]) -> dict[str, State]:
        """Return what follows for tenants now: as the window slides, a state may end."""
        return await self._ask(dict.fromkeys(tenants, NONE), decides=True)

    async def read(self, tenants: Iterable[str]) -> dict[str, State]:
        """Return how tenants stand, and change nothing."""
        return await self._ask(dict.fromkeys(tenants, NONE), decides=False)

    async def clear(self, tenant: str) -> None:
        """Forget all that was counted; workers are told."""
        await self._link.call("DEL", _key(tenant))
        await self._link.call("PUBLISH", WAKE_CHANNEL, "suspensions")

    async def _ask(self, counts: Mapping[str, Counts], *, decides: bool) -> dict[str, State]:
        head = self._write_settings(decides)
        calls: list[tuple[list[str], Pending]] = []
        for some in batch(counts):
            arguments = [part for name in some for part in (name, *counts[name])]
            calls.append((some, self._link.start("share", _key(some[0]), *head, *arguments)))
        states = {}
        for some, pending in calls:
            for name, reply in zip(some, await pending.wait(), strict=True):
                states[name] = self._read_state(reply)
        return states

    def _write_settings(self, decides: bool) -> tuple[Part, ...]:
        one = self._settings
        return (
            *(int(one.window * 1000), one.at_least, int(decides)),
            *(one.slow_unknown, one.slow_content, one.slow_complaints),
            *(one.hold_unknown, one.hold_content, one.hold_complaints),
        )

    def _read_state(self, reply: Reply) -> State:
        name, kind, share, tried, limit, since, changed, *counts = reply
        state: Measure = {b"slow": "slow", b"hold": "hold"}.get(name, "")  # type: ignore[assignment]
        reason = ""
        if kind:
            what = f"{_KINDS[kind]} {_spell_share(float(share))} of {tried:,}"
            reason = f"{what} in {_spell_window(self._settings.window)}"
            if state:
                reason += f": {_WORDS[state]} at {_spell_share(float(limit))}"
        return State(state, reason, since / 1000, Counts(*counts), bool(changed))


def batch(tenants: Iterable[str]) -> Iterator[list[str]]:
    """Divide tenants up into those that one call is about: of one shard, a hundred at most."""
    shards: dict[int, list[str]] = {}
    for tenant in tenants:
        shards.setdefault(find_shard(tenant), []).append(tenant)
    for names in shards.values():
        for first in range(0, len(names), _BATCH):
            yield names[first : first + _BATCH]


def _key(tenant: str) -> str:
    return make_key(find_shard(tenant), "share", tenant)


def _spell_share(share: float) -> str:
    """Three digits, wherever they stand: complaints are told in thousandths."""
    return f"{100 * share:.3g} %"


def _spell_window(seconds: float) -> str:
    """As the configuration has it: the largest unit that leaves a whole number."""
    for size, unit in _UNITS:
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"
