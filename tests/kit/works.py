"""A delivery pool at work: real store, real router, real sources; scripted hosts around it.

async with open_works(server, tmp_path, routes={"y.test": [host.make_host()]}) as works:
    await works.post(b"bob@y.test")
    await works.wait_for(delivered=1)
"""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path as File
from typing import Any

import trio

from relay.config import Config, read
from relay.events import EventLog, decode_event, encode_event
from relay.model import Delivery, Recipient
from relay.net.resolver import Resolver
from relay.store.keys import WAKE_CHANNEL, find_shard, read_queue
from relay.store.link import Bell, Link
from relay.store.queue import Store
from tests.kit.audit import Audit, check
from tests.kit.peer import SMALL, make_delivery
from tests.kit.redis import Server
from workers.hosts import Host
from workers.pool import Pool
from workers.route import Path, Router
from workers.tls.security import Security

SOURCES = {"a": "127.0.0.11", "b": "127.0.0.12", "c": "127.0.0.13"}
_LOOK = 0.01


class Works:
    """A worker process' inside, and what a test wants to know of it."""

    def __init__(
        self, config: Config, store: Store, server: Server, names: Sequence[str] = ()
    ) -> None:
        """``names``: of the sources that it serves; none: all."""
        self.config = config
        self.store = store
        self.events = EventLog(config.log.events)
        self.stop = trio.Event()
        self.ended = trio.Event()
        self._server = server
        resolver = Resolver(config.dns)
        self.security = Security(config, store, resolver, self.events)
        self.pool = Pool(
            config,
            sources=[one for one in config.source if not names or one.name in names],
            store=store,
            router=Router(config, resolver, self.security.policies),
            events=self.events,
            tally=self.security.tally,
        )

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.security.run)
            await self.pool.run(self.stop)
            nursery.cancel_scope.cancel()
        self.ended.set()

    async def post(
        self, *recipients: bytes | Recipient, content: bytes = SMALL, **more: Any
    ) -> Delivery:
        """Accept a message for recipients of one domain, as the ingress would."""
        more.setdefault("accepted", time.time())
        delivery = make_delivery(*recipients, content=content, **more)
        event = encode_event({"event": "accepted", "id": delivery.message_id})
        assert await self.store.accept([delivery], event, content)
        return delivery

    async def post_many(self, count: int, *recipients: bytes | Recipient, **more: Any) -> None:
        """Accept so many messages at once."""

        async def post() -> None:
            async with slots:
                await self.post(*recipients, **more)

        slots = trio.CapacityLimiter(100)
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(post)

    async def post_in_parts(self, content: bytes, *, size: int = 256 * 1024) -> Delivery:
        """Accept a large message, as the ingress would."""
        parts = [content[place : place + size] for place in range(0, len(content), size)]
        delivery = make_delivery(content=content, chunks=len(parts), accepted=time.time())
        for number, part in enumerate(parts):
            await self.store.store_part(delivery.home, delivery.message_id, number, part)
        assert await self.store.accept([delivery], encode_event({"event": "accepted"}), b"")
        return delivery

    async def run_until(self, **counts: int) -> None:
        """Work until the ledger shows these counts."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.run)
            await self.wait_for(**counts)
            nursery.cancel_scope.cancel()

    async def wait_for(self, *, seconds: float = 15, book: str = "ledger", **counts: int) -> None:
        """Wait until the ledger shows these counts."""
        with trio.fail_after(seconds):
            while True:
                books = (await self.store.read_ledger())[book]
                if all(books[name] == count for name, count in counts.items()):
                    return
                await trio.sleep(_LOOK)

    async def wait_for_event(
        self, name: str, count: int = 1, *, seconds: float = 15
    ) -> list[dict[str, Any]]:
        """Wait until so many events of a name are in the log; return them."""
        with trio.fail_after(seconds):
            while True:
                if len(found := self.read_events(name)) >= count:
                    return found
                await trio.sleep(_LOOK)

    def read_events(self, name: str) -> list[dict[str, Any]]:
        self.events.flush()
        lines = File(self.config.log.events).read_bytes().splitlines()
        return [event for event in map(decode_event, lines) if event["event"] == name]

    async def hurry(self, domain: str) -> int:
        """Let what waits for its time in a domain's queue go now, as an operator could.

        Sources that rest at its site do so no longer.
        """
        moved = 0
        path = await self.pool.desk.router.find(domain, None, "optional")  # the site, as limbo.py
        for source in self.config.source if isinstance(path, Path) else ():
            self.pool.desk.gates.recover(path.site, source.name)
        for queue in await self.store.list_queues(find_shard(domain)):
            if read_queue(queue).domain == domain:
                moved += await self.store.hurry(queue, ahead=10 * 86400)
        return moved

    async def finish(self) -> None:
        """Stop in an orderly way."""
        self.stop.set()
        with trio.fail_after(20):
            await self.ended.wait()
        self.events.flush()

    def check(self, *, leftover: bool = False) -> Audit:
        """Every message is in exactly one place. Only when nothing moves any more."""
        return check(self._server, leftover=leftover)


def make_config(
    base: File,
    *,
    routes: Mapping[str, Sequence[Host]] | None = None,
    weights: Mapping[str, int] | None = None,
    addresses: Mapping[str, str] | None = None,
    tables: Mapping[str, Any] | None = None,
    **delivery: Any,
) -> Config:
    """Return a configuration; keywords that are not named here go into ``[delivery]``."""
    addresses = addresses or {"a": SOURCES["a"]}
    delivery = {"retry": ["1s"], "idle": "1s"} | delivery
    document = {
        "state_dir": "state",
        "ingress": {"hostname": "gate.example.net"},
        "tenant": [{"name": "acme", "domains": ["acme.example"], "networks": ["127.0.0.0/8"]}],
        "source": [
            {"name": name, "address": address, "ehlo": f"{name}.out.test"}
            for name, address in addresses.items()
        ],
        "pool": {"default": dict(weights or dict.fromkeys(addresses, 1))},
        "route": [
            {"domains": [domain], "hosts": [f"{host.address}:{host.port}" for host in hosts]}
            for domain, hosts in (routes or {}).items()
        ],
        "delivery": delivery,
        **(tables or {}),
    }
    return read(document, base=base, environment={})


@asynccontextmanager
async def open_works(
    server: Server,
    base: File,
    *,
    bell: bool = True,
    config: Config | None = None,
    running: bool = True,
    names: Sequence[str] = (),
    **settings: Any,
) -> AsyncIterator[Works]:
    """Run a pool until the block ends, then without mercy; ``finish`` is the orderly way."""
    config = config or make_config(base, **settings)
    link = Link(server.url, timeout=10)
    listeners = (await link.call("PUBSUB", "NUMSUB", WAKE_CHANNEL))[1]
    try:
        works = Works(config, Store(link, config), server, names)
        async with trio.open_nursery() as nursery:
            if bell:
                nursery.start_soon(Bell(server.url, WAKE_CHANNEL, works.pool.ring).run)
                await _wait_for_listener(link, listeners)
            if running:
                nursery.start_soon(works.run)
            yield works
            nursery.cancel_scope.cancel()
    finally:
        await link.aclose()


async def _wait_for_listener(link: Link, before: int) -> None:
    """Wait until the bell is heard: what rings before that is found only by looking."""
    with trio.fail_after(5):
        while True:
            if (await link.call("PUBSUB", "NUMSUB", WAKE_CHANNEL))[1] > before:
                return
            await trio.sleep(_LOOK)
