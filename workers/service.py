"""The worker process: sources, the pool, the link, and an orderly end.

serve
├── wait_for_stop          signals
├── events.run             writes the event log, and the audit trail; tells who listens
├── Pusher.run             hands in what was counted
├── Security.run           policies of receivers, TLS reports
├── Watch.run              looks at our own sources from time to time (see doctor/watch.py)
└── Pool.run               claims, lanes, housekeeping (see pool.py)
"""

import logging

import trio

from relay.audit.trail import open_trail
from relay.config import Config
from relay.config.schema import Source
from relay.errors import SourceUnusable, StartError
from relay.events import EventLog
from relay.net.egress import make_egress
from relay.net.resolver import Resolver
from relay.ready import say_ready
from relay.signals import wait_for_stop
from relay.store.broadcast import Broadcast
from relay.store.counters import Pusher
from relay.store.durability import require_durability
from relay.store.keys import WAKE_CHANNEL
from relay.store.link import Bell, Link
from relay.store.opening import open_link
from relay.store.queue import Store
from workers.doctor.watch import Watch
from workers.pool import Pool
from workers.route import Router
from workers.tls.security import Security

_log = logging.getLogger("outgate.worker")


async def serve(config: Config, names: tuple[str, ...] = ()) -> None:
    """Deliver from the named sources (all, if none is named) until SIGTERM or SIGINT.

    Raises StartError when no source can be used, or the store cannot.
    """
    sources = [source for source in config.source if not names or source.name in names]
    await check_sources(sources)
    link = open_link(config)
    try:
        for weakness in await require_durability(link, level=config.store.durability):
            _log.warning("the store can lose acknowledged mail: %s", weakness)
        events = EventLog(config.log.events, open_trail(config, "worker", link), Broadcast(link))
        try:
            await _run(config, sources, link, events)
        finally:
            events.close()
    finally:
        await link.aclose()


async def check_sources(sources: list[Source]) -> None:
    """Try each source: one that cannot be used is reported, none that can is a StartError."""
    problems = {}
    for source in sources:
        try:
            await make_egress(source).check()
        except SourceUnusable as error:
            problems[source.name] = str(error)
    if sources and len(problems) == len(sources):
        reasons = "; ".join(dict.fromkeys(problems.values()))
        raise StartError(
            f"no source can be used ({', '.join(problems)}): {reasons}. "
            "Add the addresses to this machine, or correct source.address"
        )
    for name, problem in problems.items():
        _log.warning("source %s: %s", name, problem)


async def _run(config: Config, sources: list[Source], link: Link, events: EventLog) -> None:
    store = Store(link, config)
    resolver = Resolver(config.dns)
    security = Security(config, store, resolver, events)
    pool = Pool(
        config,
        sources=sources,
        store=store,
        router=Router(config, resolver, security.policies),
        events=events,
        tally=security.tally,
    )
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(events.run)
        nursery.start_soon(Pusher(link, "worker", pool.count_sessions).run)
        nursery.start_soon(security.run)
        if config.checks.interval:
            nursery.start_soon(Watch(config, link, events).run)
        nursery.start_soon(Bell(link.url, WAKE_CHANNEL, pool.ring).run)
        nursery.start_soon(wait_for_stop, stop.set)
        say_ready()
        await pool.run(stop)
        nursery.cancel_scope.cancel()
