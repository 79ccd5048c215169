"""Sources: which addresses send, how each is, and how it stands with receivers."""

from typing import Any

from relay.config import Config
from relay.config.schema import Source
from relay.store.gateview import GateView
from relay.store.gather import together
from relay.store.queue import Store
from relay.store.standing import Standing, Standings, find_warmups
from workers.views.backlog import Backlog, read_backlog
from workers.views.reason import Situation, read_moment, read_situation
from workers.views.selection import Selection
from workers.views.standing import WORDS, describe, find_word, is_telling

SHOWN = 40  # standings


async def read_sources(
    store: Store,
    config: Config,
    wanted: str = "",
    site: str = "",
    *,
    limit: int = SHOWN,
    backlog: list[Backlog] | None = None,
) -> dict[str, Any]:
    """Return the sources, and ``limit`` of their standings, the worst first.

    ``wanted``, ``site``: this one only, and this site's standings only; "": all. ``backlog``: what
    waits, when it has been looked at just now.
    """
    if backlog is None:
        backlog, _ = await read_backlog(store, Selection())
    known = Standings(store.link, config)
    begun = await together(moment=lambda: read_moment(store, config), judged=known.list_sites)
    moment, judged = begun["moment"], begun["judged"]
    sources = [source for source in config.source if wanted in ("", source.name)]
    names = [source.name for source in sources]
    sites = _list_sites(config, backlog)
    view = GateView(store.link, moment.now)
    of = dict.fromkeys([*([site] if site else sites), *judged])
    read = await together(
        situation=lambda: read_situation(store, config, moment=moment),
        connections=lambda: view.count_connections(sites, names),
        rests=lambda: view.read_rests(sites),
        standings=lambda: known.read(of, moment.now),
    )
    situation, connections, rests = read["situation"], read["connections"], read["rests"]
    standings = _select_telling(known, read["standings"], backlog, config, moment.now)
    telling = [one for one in standings if one.source in names and site in ("", one.site)]
    rows = []
    for source in sources:
        there = {site: n for (site, name), n in connections.items() if name == source.name}
        row = _describe(situation, source)
        row["connections"] = sum(there.values())
        row["sites"] = len(there)
        row["rests"] = sum(source.name in names for names in rests.values())
        row["standings"] = [
            describe(one, config, situation.now)
            for one in telling[:limit]
            if one.source == source.name
        ]
        rows.append(row)
    workers = sum(member.startswith("worker:") for member in situation.alive)
    return {
        "now": situation.now,
        "sources": rows,
        "workers": workers,
        "not_shown": len(telling[limit:]),
    }


def _list_sites(config: Config, backlog: list[Backlog]) -> list[str]:
    """Return the sites that have something queued or in hand, and those with an entry of ours."""
    entries = [site.name for site in config.site if site.mx or site.domains]
    return list(dict.fromkeys([*entries, *(one.site for one in backlog if one.site)]))


def _select_telling(
    known: Standings,
    found: dict[tuple[str, str], Standing],
    backlog: list[Backlog],
    config: Config,
    now: float,
) -> list[Standing]:
    """Return the standings that say something, the worst first."""
    for site, source in _find_beginnings(config, backlog):
        # A source that is warmed up has an allowance before it has sent anything.
        found.setdefault((site, source), known.begin(site, source, now))
    telling = [one for one in found.values() if is_telling(one, now)]
    return sorted(telling, key=lambda one: (WORDS.index(find_word(one, now)), one.source, one.site))


def _find_beginnings(config: Config, backlog: list[Backlog]) -> set[tuple[str, str]]:
    """Return the sites and sources where mail waits that a source being warmed up may send."""
    return {
        (one.site, source)
        for one in backlog
        if one.site
        for pool in one.pools
        for source in find_warmups(config).keys() & config.pool.get(pool, {}).keys()
    }


def _describe(situation: Situation, source: Source) -> dict[str, Any]:
    heard = situation.alive.get(f"source:{source.name}")
    covering = situation.find_suspension(source=source.name)
    partly = [one.name for one in situation.suspended if one.source == source.name and one.site]
    return {
        "name": source.name,
        "address": source.address,
        "ehlo": source.ehlo,
        "egress": source.proxy.partition(":")[0] or "direct",
        "pools": {
            pool: members[source.name]
            for pool, members in situation.config.pool.items()
            if source.name in members
        },
        "alive": heard is not None,
        "heard": None if heard is None else round(max(0.0, situation.now - heard), 1),
        "suspended": situation.describe(covering).text if covering else "",
        "suspended_at": [name.partition("source=")[0].strip() for name in partly],
    }
