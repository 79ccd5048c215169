"""Deliveries on their way through the store, without a worker: accept, claim, settle.

What a worker does with the store, and nothing else of it: no gate, no DNS, no SMTP.
"""

import itertools
import time
from collections.abc import Sequence

import trio

from relay.events import encode_event
from relay.model import Claim
from relay.store.keys import find_shard, make_queue
from relay.store.queue import Store
from tests.bench.filling import fill
from tests.bench.system import BenchFailed

_TENANT = "acme"
_INLINE = 32 * 1024
_OCTETS = 4 << 20


class Passage:
    """Messages to some domains, of so many to a site, through one store."""

    def __init__(self, store: Store, domains: Sequence[str], *, per_site: int) -> None:
        self.store = store
        self._sites = {domain: f"s{n // per_site}" for n, domain in enumerate(domains)}
        # Where there may be something to claim, in turn, as a worker's look goes round.
        places = sorted({(site, find_shard(domain)) for domain, site in self._sites.items()})
        self._places = itertools.cycle(places)
        self._round = len(places)
        self._tokens = (f"bench-{number}" for number in itertools.count())

    async def assign(self) -> None:
        """Let the store know the site of each domain, as workers do when they have looked it up."""
        nowhere = _name_lane("")
        for domain, site in self._sites.items():
            queue = make_queue(_TENANT, domain)
            await self.store.assign(find_shard(domain), queue, nowhere, site)

    async def carry(self, domains: Sequence[str], *, octets: int) -> None:
        """Accept a message for each domain; claim as many as that, and settle them."""
        await fill(self.store, domains, octets=octets, tasks=len(domains))
        claims: list[Claim] = []
        for _ in range(len(domains) + self._round):  # nowhere is it empty so often
            if (most := len(domains) - len(claims)) == 0:
                break
            claims += await self._claim(most)
        else:
            raise BenchFailed(f"{len(claims)} of {len(domains)} deliveries were there to claim")
        async with trio.open_nursery() as nursery:
            for claim in claims:
                nursery.start_soon(self.store.settle, claim, _make_event(claim))

    async def _claim(self, most: int) -> list[Claim]:
        site, shard = next(self._places)
        found = await self.store.claim(
            shard,
            _name_lane(site),
            [most],
            token=next(self._tokens),
            octets=_OCTETS,
            inline=_INLINE,
        )
        return [claim for _, claim in found.claims]


def _name_lane(site: str) -> str:
    """Return the lane of these messages at a site; "": at one that is not known yet."""
    return f"default/normal/{_TENANT}/{site}"


def _make_event(claim: Claim) -> bytes:
    """Return the event of a message that was delivered at once."""
    recipient = claim.delivery.envelope.recipients[0].address.decode()
    return encode_event(
        {
            "time": time.time(),
            "event": "delivered",
            "id": claim.delivery.message_id,
            "delivery": claim.delivery.id,
            "tenant": claim.delivery.tenant,
            "domain": claim.delivery.domain,
            "attempt": claim.attempts + 1,
            "source": "a",
            "host": "mx.example.net",
            "tls": "TLSv1.3",
            "recipients": [{"address": recipient, "outcome": "delivered", "code": 250}],
        }
    )
