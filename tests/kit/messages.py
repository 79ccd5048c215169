"""Messages and their deliveries for tests of the store, and claims on them."""

from relay.model import Claim, Delivery, Envelope, Recipient, make_message_id
from relay.store.keys import SHUT, find_shard, read_lane
from relay.store.queue import Claimed, Store

EVENT = b'{"event":"test"}'


def find_domains(count: int, *, shard: int | None = None, but: tuple[int, ...] = ()) -> list[str]:
    """Return domains, all of ``shard`` or each of another one (and of none in ``but``)."""
    found: dict[str, int] = {}
    number = 0
    while len(found) < count:
        domain = f"d{number}.test"
        here = find_shard(domain)
        if here == shard or (shard is None and here not in (*found.values(), *but)):
            found[domain] = here
        number += 1
    return list(found)


def make_deliveries(
    *domains: str,
    recipients: int = 1,
    chunks: int = 1,
    size: int = 5,
    tenant: str = "acme",
    pool: str = "default",
    accepted: float = 1.0,
    notice: bool = False,
    priority: str = "",
    held: bool = False,
) -> list[Delivery]:
    """Return the deliveries of one new message, one for each domain."""
    home = find_shard(domains[0])
    message_id = make_message_id(home)
    return [
        Delivery(
            id=f"{message_id}.{number}",
            tenant=tenant,
            pool=pool,
            domain=domain,
            envelope=Envelope(
                b"s@acme.example",
                tuple(Recipient(b"r%d@%s" % (n, domain.encode())) for n in range(recipients)),
            ),
            size=size,
            chunks=chunks,
            accepted=accepted,
            home=home,
            alone=len(domains) == 1,
            notice=notice,
            priority=priority,
            held=held,
        )
        for number, domain in enumerate(domains)
    ]


def make_delivery(domain: str = "a.test", *, recipients: int = 1, **more: object) -> Delivery:
    """Return the only delivery of a new message."""
    (delivery,) = make_deliveries(domain, recipients=recipients, **more)  # type: ignore[arg-type]
    return delivery


class Claims:
    """Claims with tokens that are never used twice, as a worker makes them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._number = 0

    async def look(
        self,
        domain: str = "a.test",
        *,
        pool: str = "default",
        most: int = 100,
        octets: int = 1 << 22,
        inline: int = 1 << 18,
    ) -> Claimed:
        """Claim from all lanes of a pool in the shard of ``domain``; ``left`` adds up.

        Pinned lanes are the pool's too, those of suspended queues nobody's.
        """
        shard = find_shard(domain)
        found = Claimed([], 0)
        for lane in await self._store.list_lanes(shard):
            if most <= 0 or read_lane(lane).pool != pool or read_lane(lane).site == SHUT:
                continue
            self._number += 1
            claimed = await self._store.claim(
                shard, lane, [most], token=f"test-{self._number}", octets=octets, inline=inline
            )
            most -= len(claimed.claims)
            octets -= sum(len(claim.body or b"") for _, claim in claimed.claims)
            found = Claimed([*found.claims, *claimed.claims], found.left + claimed.left)
        return found

    async def take(self, domain: str = "a.test", **limits: int) -> list[Claim]:
        """Return what a claim brings."""
        claimed = await self.look(domain, **limits)  # type: ignore[arg-type]
        return [claim for _, claim in claimed.claims]

    async def take_one(self, domain: str = "a.test") -> Claim:
        """Return the one claim that there is."""
        (claim,) = await self.take(domain)
        return claim

    async def take_from(self, lane: str, *grants: int, domain: str = "a.test") -> Claimed:
        """Claim from one lane, for so many sources."""
        self._number += 1
        return await self._store.claim(
            find_shard(domain),
            lane,
            grants or (100,),
            token=f"test-{self._number}",
            octets=1 << 22,
            inline=1 << 18,
        )


async def put(store: Store, count: int, domain: str = "a.test", **more: object) -> list[Delivery]:
    """Accept ``count`` small messages to one recipient each."""
    deliveries = [make_delivery(domain, **more) for _ in range(count)]  # type: ignore[arg-type]
    for delivery in deliveries:
        await store.accept([delivery], EVENT, b"hello")
    return deliveries


async def read_books(store: Store, book: str = "ledger") -> dict[str, int]:
    """Return what is not zero in a ledger."""
    return {name: count for name, count in (await store.read_ledger())[book].items() if count}
