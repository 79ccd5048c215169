"""Sources and sites as a grid: in each cell what one source may do at one site, and why no more."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from relay.config import Config
from relay.store.gateview import GateView, Rest
from relay.store.gather import together
from relay.store.queue import Store
from relay.store.standing import Standing, Standings
from workers.views.backlog import Backlog
from workers.views.reason import Situation, read_moment, read_situation
from workers.views.standing import KNOWN, describe
from workers.views.words import format_span

SITES = 60  # that are shown: those with most waiting, and those where a source is in trouble
# What a cell's state is; of `describe`'s words, those that mean the same to who looks at a grid.
_WORDS = {"narrowed": "slowed", "poor": "ok", "good": "ok", "new": "ok"}


@dataclass(frozen=True, slots=True)
class _Ground:
    """What the cells are made of."""

    situation: Situation
    standings: dict[tuple[str, str], Standing]
    rests: dict[str, dict[str, Rest]]
    connections: dict[tuple[str, str], int]


async def read_grid(
    store: Store, config: Config, backlog: Sequence[Backlog], *, limit: int = SITES
) -> dict[str, Any]:
    """Return the grid: a cell for each source at each of ``limit`` sites."""
    standings = Standings(store.link, config)
    begun = await together(moment=lambda: read_moment(store, config), judged=standings.list_sites)
    moment, judged = begun["moment"], begun["judged"]
    queued: Counter[str] = Counter()
    for one in backlog:
        if one.site:
            queued[one.site] += one.total
    entries = [site.name for site in config.site if site.mx or site.domains]
    busy = [name for name, _ in queued.most_common()]
    # Half of the room is for trouble, wherever it is; what that does not need is for the others.
    names = list(dict.fromkeys([*judged[: limit // 2], *busy, *entries, *judged]))[:limit]
    sources = [source.name for source in config.source]
    view = GateView(store.link, moment.now)
    read = await together(
        situation=lambda: read_situation(store, config, moment=moment),
        standings=lambda: standings.read(names, moment.now),
        rests=lambda: view.read_rests(names),
        connections=lambda: view.count_connections(names, sources),
    )
    ground = _Ground(**read)
    return {
        "now": moment.now,
        "sources": sources,
        "sites": names,
        "queued": {name: queued[name] for name in names},
        "cells": [
            _describe(
                ground,
                ground.standings.get((site, source)) or standings.begin(site, source, moment.now),
            )
            for source in sources
            for site in names
        ],
        "not_shown": len({*busy, *entries, *judged}) - len(names),
    }


def _describe(ground: _Ground, one: Standing) -> dict[str, Any]:
    situation, site, source = ground.situation, one.site, one.source
    told = describe(one, situation.config, situation.now)
    state, text = _find_state(ground, told, site, source)
    day = told["warmup"]
    return {
        "source": source,
        "site": site,
        "score": told["score"],
        "known": one.evidence >= KNOWN,
        "pace": told["pace"],
        "connections": ground.connections.get((site, source), 0),
        "connection_limit": told["connections"],
        "state": state,
        "text": text,
        "warmup": None
        if day is None or day["allowance"] is None
        else {
            "day": day["day"],
            "days": day["days"],
            "allowance": day["allowance"],
            "used": day["used"],
            "next": day["next_day"],
        },
    }


def _find_state(ground: _Ground, told: dict[str, Any], site: str, source: str) -> tuple[str, str]:
    """Return what matters most: first who must not send at all."""
    situation = ground.situation
    covering = situation.find_suspension(site=site, source=source)
    if covering is not None:
        return "suspended", situation.describe(covering).text
    if told["quarantine"] is not None:
        return told["state"], told["text"]
    rest = ground.rests.get(site, {}).get(source)
    if rest is not None:
        said = f": {rest.text}" if rest.text else ""
        wait = format_span(rest.until - situation.now)
        return "resting", f"no host was reached, tried again in {wait}{said}"
    state = _WORDS.get(told["state"], told["state"])
    day = told["warmup"]
    if state == "ok" and day is not None and day["allowance"] is not None:
        return "warming", f"{day['used']:,} of {day['allowance']:,} today"
    return state, told["text"]
