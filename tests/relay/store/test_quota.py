"""What a tenant may hand in: counted on the store's clock, over all who ask."""

from relay.config.units import Rate
from relay.store.link import Link
from relay.store.opening import make_link
from relay.store.quota import Quotas
from tests.kit.redis import Server

HOUR = (Rate(3, 3600),)


async def test_so_many_and_no_more(link: Link, server: Server) -> None:
    other = make_link(server.url, timeout=10)
    try:
        mine, theirs = Quotas(link), Quotas(other)
        assert [await q.take("acme", HOUR) for q in (mine, theirs, mine)] == [0.0, 0.0, 0.0]

        assert 3400 < await theirs.take("acme", HOUR) < 3800
        assert await theirs.take("other", HOUR) == 0.0
    finally:
        await other.aclose()


async def test_what_is_given_back_can_be_taken_again(link: Link) -> None:
    quotas = Quotas(link)
    for _ in range(3):
        await quotas.take("acme", HOUR)

    quotas.give_back("acme", HOUR)

    assert await quotas.take("acme", HOUR) == 0.0
    assert await quotas.take("acme", HOUR) > 0


async def test_all_rates_hold_at_once(link: Link) -> None:
    quotas, rates = Quotas(link), (Rate(1, 1, burst=2), Rate(100, 86_400))

    taken = [await quotas.take("acme", rates) for _ in range(5)]

    assert taken[:2] == [0.0, 0.0]
    assert 0 < max(taken) <= 1.1


async def test_of_a_large_rate_a_share_is_taken_at_a_time(link: Link, server: Server) -> None:
    other = make_link(server.url, timeout=10)
    try:
        rates = (Rate(1000, 3600),)
        mine, theirs = Quotas(link), Quotas(other)
        taken = 0
        for quotas in (mine, theirs, mine):
            for _ in range(5):
                assert await quotas.take("acme", rates) == 0.0
                taken += 1

        while not await mine.take("acme", rates):
            taken += 1
        # What the other has taken, and not used, is not there; never more than there may be.
        assert 1000 - 10 <= taken <= 1000

        theirs.close()
        await other.call("PING")  # behind it
        while not await mine.take("acme", rates):
            taken += 1
        assert taken == 1000
    finally:
        await other.aclose()
