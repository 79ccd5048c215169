"""The bench's way through the store: the backlog stays as it is, whatever goes through."""

from pathlib import Path

import pytest

from relay.config import read
from relay.store.link import Link
from relay.store.queue import Store
from tests.bench.filling import fill, make_body, spread
from tests.bench.passage import Passage
from tests.kit.redis import open_server

_DOMAINS = [f"d{number}.test" for number in range(20)]


def test_a_body_has_about_the_size_that_was_asked_for() -> None:
    for octets in (256, 1024, 4096):
        assert octets * 0.7 < len(make_body(octets)) <= octets


def test_domains_come_in_turn() -> None:
    assert list(spread("d{}.test", 2, 5)) == ["d0.test", "d1.test", "d0.test", "d1.test", "d0.test"]


@pytest.mark.slow
async def test_what_is_accepted_is_claimed_and_settled(tmp_path: Path) -> None:
    with open_server() as server:
        link = Link(server.url, timeout=10)
        try:
            store = Store(link, read({}, base=tmp_path, environment={}))
            passage = Passage(store, _DOMAINS, per_site=5)
            await passage.assign()
            kept = await fill(store, spread("d{}.test", 20, 60), octets=300, keep=3)
            assert len({delivery.id for delivery in kept}) == 3
            for _ in range(3):
                await passage.carry(_DOMAINS[:10], octets=300)
            ledger = (await store.read_ledger())["ledger"]
            assert (ledger["accepted"], ledger["delivered"], ledger["queued"]) == (90, 30, 60)
        finally:
            await link.aclose()
