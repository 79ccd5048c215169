"""The backlog as people think of it: what waits for one tenant and recipient domain.

The store divides that by priority and by what is pinned to a source, and each of those has a lane;
here they are one again. Everything is counted; what costs more than a count (the oldest, why it
waits) is read of those that are shown.
"""

from collections import Counter
from dataclasses import dataclass, field

from relay.store.gather import gather
from relay.store.keys import NOWHERE, SHUT, read_lane, read_queue
from relay.store.queue import Store
from relay.store.suspension import find_shards
from workers.views.selection import Selection

_MOST = 200_000  # queues that are counted
_SHARDS = 4  # that are read at a time


@dataclass(slots=True)
class Backlog:
    """What waits for one domain of one tenant; ``queues``: names in the store, and their lanes."""

    tenant: str
    domain: str
    site: str = ""
    ready: int = 0
    due: int = 0
    claimed: int = 0
    queues: dict[str, str] = field(default_factory=dict)
    with_ready: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """All that has not ended."""
        return self.ready + self.due + self.claimed

    @property
    def pools(self) -> list[str]:
        """The pools whose lanes it stands in."""
        return sorted({read_lane(lane).pool for lane in self.queues.values() if lane})

    @property
    def pins(self) -> list[str]:
        """The sources that some of it waits for."""
        return sorted({read_queue(name).source for name in self.queues} - {""})

    @property
    def priorities(self) -> list[str]:
        """Which there are."""
        return sorted({read_queue(name).priority or "normal" for name in self.queues})


async def read_backlog(store: Store, selection: Selection) -> tuple[list[Backlog], bool]:
    """Return what waits, the largest first; False: there were too many queues to count all."""
    lanes: dict[str, str] = {}
    shards = find_shards(selection.domain)
    for first in range(0, len(shards), _SHARDS):
        for some in (await gather(store.list_queues, shards[first : first + _SHARDS])).values():
            lanes |= some
        if len(lanes) > _MOST:
            break
    claimed = await store.count_claimed()
    for name in claimed:
        lanes.setdefault(name, "")
    lanes = {
        q: lane for q, lane in lanes.items() if selection.covers(read_queue(q), selection.site)
    }
    sites = await _find_sites(store, lanes)
    if selection.site:
        lanes = {queue: lane for queue, lane in lanes.items() if sites[queue] == selection.site}
    found = await _gather(store, lanes, sites, claimed)
    found.sort(key=lambda one: (-one.total, one.tenant, one.domain))
    return found, len(lanes) <= _MOST


def select(found: list[Backlog], chosen: Selection) -> list[Backlog]:
    """Return those of a tenant, domain and site; a source is not asked about."""
    return [
        one
        for one in found
        if chosen.tenant in ("", one.tenant)
        and chosen.domain in ("", one.domain)
        and chosen.site in ("", one.site)
    ]


async def _find_sites(store: Store, lanes: dict[str, str]) -> dict[str, str]:
    """Most lanes say it; for the others there is a note of what was found last."""
    sites = {queue: read_lane(lane).site if lane else "" for queue, lane in lanes.items()}
    open_ones = [queue for queue, site in sites.items() if site in ("", SHUT)]
    return sites | await store.read_sites(open_ones)


async def _gather(
    store: Store, lanes: dict[str, str], sites: dict[str, str], claimed: Counter[str]
) -> list[Backlog]:
    found: dict[tuple[str, str], Backlog] = {}
    for name, size in (await store.read_sizes(lanes)).items():
        if not size.ready + size.due + claimed[name]:
            continue
        queue = read_queue(name)
        one = found.setdefault((queue.tenant, queue.domain), Backlog(queue.tenant, queue.domain))
        one.ready += size.ready
        one.due += size.due
        one.claimed += claimed[name]
        one.queues[name] = lanes[name]
        one.site = one.site or ("" if sites[name] == NOWHERE else sites[name])
        if size.ready:
            one.with_ready.append(name)
    return list(found.values())
