"""The whole in one look, for who watches it: rates, the ledger, what waits by site and why, the grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relay.config import Config
from relay.store.counters import Books, Counted
from relay.store.queue import Store
from workers.views import queues
from workers.views.backlog import Backlog, read_backlog
from workers.views.grid import read_grid
from workers.views.selection import Selection
from workers.views.status import read_status

_WORDS = ("accepted", "delivered", "bounced")


@dataclass(frozen=True, slots=True)
class Beat:
    """Sums that only grow, at one time (seconds, on any clock): two of them make rates."""

    time: float
    sums: Mapping[str, int]


async def read_pulse(store: Store, config: Config, *, sites: int) -> dict[str, Any]:
    """Return the state of the whole; of ``sites``, those where most waits, why it does.

    Raises StoreUnavailable, StoreError, StartError.
    """
    found, complete = await read_backlog(store, Selection())
    status = await read_status(store, config, found)
    counted = await Books(store.link).read()
    return {
        **status,
        "sums": _add_up(status, counted),
        "sites": await _read_sites(store, config, found, sites),
        "grid": await read_grid(store, config, found, limit=sites),
        "complete": complete,
    }


def reckon_rates(before: Beat | None, now: Beat) -> dict[str, float | None]:
    """Return what happened a second between two beats; None: nobody knows yet."""
    span = 0.0 if before is None else now.time - before.time
    if before is None or span <= 0:
        return dict.fromkeys(now.sums)
    return {
        # Who empties the store has the sums begin again.
        name: max(0.0, round((total - before.sums.get(name, 0)) / span, 2))
        for name, total in now.sums.items()
    }


def _add_up(status: Mapping[str, Any], counted: Counted) -> dict[str, int]:
    """Return recipients by the ledger, and tries that were put off, as far as they were counted."""
    attempts = counted.get("attempts", {}).items()
    sums = {word: int(status["ledger"][word]) for word in _WORDS}
    return sums | {"deferred": sum(n for labels, n in attempts if labels[-1] == "deferred")}


async def _read_sites(
    store: Store, config: Config, found: Sequence[Backlog], limit: int
) -> list[dict[str, Any]]:
    """Return sites by what waits for them; why is that of the queue where most does."""
    first: dict[str, Backlog] = {}
    totals: dict[str, dict[str, int]] = {}
    for one in found:  # the largest first
        first.setdefault(one.site, one)
        total = totals.setdefault(one.site, {"ready": 0, "due": 0, "claimed": 0, "queues": 0})
        total["ready"] += one.ready
        total["due"] += one.due
        total["claimed"] += one.claimed
        total["queues"] += 1
    names = sorted(totals, key=lambda name: -_count(totals[name]))[:limit]
    told = await queues.describe(store, config, [first[name] for name in names])
    return [
        {"site": name, **totals[name], "domain": row["domain"], "oldest": row["oldest"],
         "why": row["why"], "text": row["text"]}
        for name, row in zip(names, told, strict=True)
    ]  # fmt: skip


def _count(total: Mapping[str, int]) -> int:
    return total["ready"] + total["due"] + total["claimed"]
