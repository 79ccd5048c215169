"""A provider that takes so much a second from each address, and says so: the pace finds it.

The provider is an emulated one with the words of Gmail. Another site is not slowed by it.
"""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from relay.config.units import Rate, Rates
from tests.kit.fleet import open_fleet
from tests.kit.receiver import open_receiver
from tests.kit.redis import Server
from tests.kit.works import SOURCES
from workers.emulation.providers.books import Books
from workers.emulation.providers.host import Host
from workers.emulation.providers.profile import Profile
from workers.hosts import Host as Address

pytestmark = pytest.mark.heavy

ADDRESSES = {name: SOURCES[name] for name in "ab"}
LIMIT, BURST = 30, 30  # messages a second, and at once, of each address
WARM_UP, SPAN = 20.0, 20.0  # s: until the pace is found, and for how long it is watched then
ELSEWHERE = 30.0  # messages a second to another site


@asynccontextmanager
async def open_provider(profile: Profile) -> AsyncIterator[Host]:
    host = Host(profile, ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), seed=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.serve)
        yield host
        nursery.cancel_scope.cancel()


def subtract(later: Books, earlier: Books) -> tuple[int, int]:
    """Return what was taken and what was throttled between two looks."""
    return later.accepted - earlier.accepted, later.throttled - earlier.throttled


async def test_its_pace_is_found_and_kept(server: Server, tmp_path: Path) -> None:
    profile = Profile(
        name="google",
        style="google",
        domains=("y.test",),
        rate=Rates((Rate(LIMIT, 1, BURST),)),
        tls="none",
    )
    sites = [
        {"name": "google", "domains": ["y.test"], "tls": "none"},
        {"name": "elsewhere", "domains": ["z.test"]},
    ]
    async with open_provider(profile) as provider, open_receiver() as other:
        routes = {
            "y.test": [Address("mx.y.test", provider.host, provider.port)],
            "z.test": [other.make_host()],
        }
        async with open_fleet(
            server, tmp_path, routes=routes, addresses=ADDRESSES, crews=("ab", "ab"),
            tables={"site": sites, "reputation": {"silence": "1s"}},
        ) as fleet:  # fmt: skip
            async with fleet.send_steadily(b"bob@z.test", rate=ELSEWHERE):
                await fleet.post(int(2 * LIMIT * (WARM_UP + SPAN)))
                await trio.sleep(WARM_UP)
                before, start = provider.provider.total(), trio.current_time()
                await trio.sleep(SPAN)
                after, end = provider.provider.total(), trio.current_time()
            taken, throttled = subtract(after, before)
            share = taken / (end - start) / (2 * LIMIT)
            elsewhere = other.count_taken(since=start) / (end - start)
            print(  # noqa: T201
                f"{share:.0%} of the limit, {throttled} of {taken + throttled} throttled; "
                f"{before.throttled} before; elsewhere {elsewhere:.0f}/s"
            )
            for name in ADDRESSES:
                assert (await fleet.read_standing("google", name)).pace is not None
                assert (await fleet.read_standing("elsewhere", name)).pace is None
            assert share > 0.4
            assert throttled <= 0.01 * taken + 5
            assert elsewhere > 0.9 * ELSEWHERE - 1
            assert {event["site"] for event in fleet.read_events("slowed")} == {"google"}
            assert not fleet.read_events("quarantined")
            ledger = (await fleet.first.store.read_ledger())["ledger"]
            assert ledger["bounced"] == 0
            for one in fleet.works:
                await one.finish()
            fleet.first.check(leftover=True)
