"""``outgate suspend``: a source, site, source at a site, tenant or domain sends nothing for a while."""

import argparse
import json
import time

import trio

from relay.config import Config, load
from relay.config.units import parse_seconds
from relay.errors import ConfigError
from relay.store.queue import Store
from relay.store.suspension import Suspension, Suspensions
from workers.cli import decision, selection
from workers.cli.asking import open_store
from workers.cli.decision import Decision
from workers.cli.page import format_count, format_span, format_time, warn
from workers.cli.selection import Selection
from workers.cli.target import list_queues

# What workers know to obey (relay/store/suspension.py).
_COMBINATIONS = (
    {"tenant"}, {"site"}, {"source"}, {"domain"},
    {"site", "source"}, {"tenant", "site"}, {"tenant", "domain"},
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what, for how long, and why."""
    selection.add_places(parser, source="from this [[source]]")
    selection.add_everything(parser, "all mail: nothing leaves")
    parser.add_argument(
        "--for",
        dest="span",
        metavar="TIME",
        default="",
        help='"30m", "4h", "2d" (default: until it is resumed)',
    )
    decision.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Suspend. Raises ConfigError for what cannot be suspended."""
    config = load(arguments.config)
    chosen = selection.read(arguments)
    _check(config, chosen)
    span = _read_span(arguments.span)
    done = trio.run(_suspend, config, chosen, span, Decision(config, arguments))
    if arguments.json:
        print(json.dumps(done))
    else:
        _show(done)
    return 0


def _check(config: Config, chosen: Selection) -> None:
    given = set(chosen.describe())
    if given and given not in _COMBINATIONS:
        words = " and ".join(sorted(given))
        problem = (
            f"suspend: workers cannot suspend {words} together; they can: tenant, site, "
            "source, domain, source at a site, tenant at a site, domain of a tenant"
        )
        raise ConfigError([problem])
    for kind, name, known in (
        ("tenant", chosen.tenant, [tenant.name for tenant in config.tenant]),
        ("source", chosen.source, [source.name for source in config.source]),
    ):
        if name and name not in known:
            raise ConfigError([f"--{kind} {name}: no such [[{kind}]]; there is {', '.join(known)}"])


def _read_span(text: str) -> float | None:
    if not text:
        return None
    try:
        span = parse_seconds(text)
    except ValueError as error:
        raise ConfigError([f"--for {text}: {error}"]) from None
    if span <= 0:
        raise ConfigError([f"--for {text}: must be more than nothing"])
    return span


async def _suspend(
    config: Config, chosen: Selection, span: float | None, decided: Decision
) -> dict[str, object]:
    async with open_store(config) as store:
        suspensions = Suspensions(store.link)
        now = await suspensions.read_clock()
        one = Suspension(
            tenant=chosen.tenant,
            domain=chosen.domain,
            site=chosen.site,
            source=chosen.source,
            until=None if span is None else now + span,
            since=now,
            who=decided.who,
            why=decided.why,
        )
        await suspensions.suspend(one)
        await decided.record(store.link, "suspended", **chosen.describe(), until=one.until)
        waiting = {"queues": 0, "deliveries": 0} if chosen.source else await _count(store, chosen)
        return {
            "suspended": one.name or "everything",
            "until": one.until,
            "who": one.who,
            "why": one.why,
            "waiting": waiting,
            "left": _find_left(config, await suspensions.read(), chosen),
            "undo": f"outgate resume {chosen.spell()}",
        }


async def _count(store: Store, chosen: Selection) -> dict[str, int]:
    queues = [queue async for queue, _ in list_queues(store, chosen)]
    sizes = (await store.read_sizes(queues)).values()
    return {"queues": len(queues), "deliveries": sum(one.ready + one.due for one in sizes)}


def _find_left(
    config: Config, suspended: list[Suspension], chosen: Selection
) -> dict[str, list[str]]:
    """Return, for each pool of a source, who goes on."""
    if not chosen.source:
        return {}
    return {
        pool: [
            name
            for name, weight in members.items()
            if weight and not any(one.covers(site=chosen.site, source=name) for one in suspended)
        ]
        for pool, members in config.pool.items()
        if members.get(chosen.source)
    }


def _show(done: dict[str, object]) -> None:
    until = done["until"]
    ends = "until it is resumed"
    if isinstance(until, float):
        ends = f"until {format_time(until)}, {format_span(until - time.time())} from now"
    print(f"suspended: {done['suspended']}, {ends}")
    waiting, left = done["waiting"], done["left"]
    assert isinstance(waiting, dict)
    assert isinstance(left, dict)
    if waiting["queues"]:
        what = format_count(waiting["deliveries"], "delivery")
        print(f"  {what} in {format_count(waiting['queues'], 'queue')} wait")
    for pool, names in left.items():
        if names:
            print(
                f"  pool {pool}: {', '.join(names)} go on"
                if names[1:]
                else f"  pool {pool}: {names[0]} goes on"
            )
        else:
            warn(f"pool {pool} has no other source: nothing of it leaves")
    print(f"  what a worker has begun is finished; undo: {done['undo']}")
