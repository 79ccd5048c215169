"""Targets: the queues that a selection means, and which of their deliveries."""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from relay.config import Config
from relay.events import decode_event
from relay.store.keys import read_queue
from relay.store.queue import Store
from relay.store.suspension import find_shards
from workers.views.parts import list_places, read_parts
from workers.views.selection import Selection


@dataclass(frozen=True, slots=True)
class Target:
    """A queue; ``messages``: those that are meant, none: all."""

    queue: str
    site: str
    messages: frozenset[str] = frozenset()


@dataclass(slots=True)
class Found:
    """What a selection means. ``claimed``: deliveries in workers' hands, which nobody can touch."""

    targets: list[Target] = field(default_factory=list)
    claimed: int = 0
    ended: list[str] = field(default_factory=list)  # of what was given by id
    unknown: list[str] = field(default_factory=list)


async def find_targets(store: Store, config: Config, selection: Selection) -> Found:
    """Return what is meant, wherever it waits."""
    if selection.ids:
        return await _find_by_id(store, config, selection)
    found = Found()
    async for queue, site in list_queues(store, selection):
        found.targets.append(Target(queue, site))
    claimed = await store.count_claimed()
    sites = await store.read_sites(claimed)
    found.claimed = sum(
        count
        for queue, count in claimed.items()
        if selection.covers(read_queue(queue), sites[queue])
    )
    return found


async def list_queues(store: Store, selection: Selection) -> AsyncIterator[tuple[str, str]]:
    """Yield queues with something ready or due, and the site of each, "" when not known."""
    for shard in find_shards(selection.domain):
        queues = [
            queue
            for queue in await store.list_queues(shard)
            if selection.covers(read_queue(queue), selection.site)
        ]
        for queue, site in (await store.read_sites(queues)).items():
            if selection.site in ("", site):
                yield queue, site


async def count_targets(store: Store, targets: Sequence[Target]) -> int:
    """Return how many deliveries are meant, as far as can be told without looking at each."""
    if any(target.messages for target in targets):
        return len({message for target in targets for message in target.messages})
    sizes = (await store.read_sizes(target.queue for target in targets)).values()
    return sum(size.ready + size.due for size in sizes)


async def _find_by_id(store: Store, config: Config, selection: Selection) -> Found:
    found = Found()
    meant: defaultdict[str, set[str]] = defaultdict(set)
    for identity in selection.ids:
        message_id = identity.partition(".")[0]
        events = [decode_event(line) for line in await store.read_story(message_id)]
        parts = [one for one in read_parts(events) if identity in (message_id, one.id)]
        if not parts:
            found.unknown.append(identity)
        for part in parts:
            if part.ended:
                found.ended.append(part.id)
                continue
            place = await store.read_place(part.id, part.domain)
            if place is not None and place.state == "claimed":
                found.claimed += 1
                continue
            for queue in [place.queue] if place else await list_places(store, config, part):
                meant[queue].add(message_id)
    for queue, site in (await store.read_sites(meant)).items():
        if selection.covers(read_queue(queue), site):
            found.targets.append(Target(queue, site, frozenset(meant[queue])))
    return found
