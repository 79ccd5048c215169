"""Reading queues for people: counts, places, ages, and nothing changed by it."""

import time

import pytest
import trio

from relay.store.queue import Store
from relay.store.view import Size
from tests.kit.command import note_site, post
from tests.kit.messages import EVENT, Claims, make_delivery

pytestmark = pytest.mark.usefixtures("audited")


@pytest.fixture
async def busy(store: Store) -> Store:
    """y.test: three ready, two due, one claimed; z.test: one urgent."""
    for number in range(6):
        await post(store, f"u{number}@y.test", accepted=1000.0 + number)
    claims = await Claims(store).take("y.test", most=3)
    await store.defer(claims[0], EVENT, wait=100)
    await store.defer(claims[1], EVENT, wait=50)
    await post(store, "ann@z.test", priority="urgent")
    return store


async def test_sizes(busy: Store) -> None:
    sizes = await busy.read_sizes(["acme/y.test", "acme/z.test/urgent", "acme/nobody.test"])
    assert sizes == {
        "acme/y.test": Size(3, 2),
        "acme/z.test/urgent": Size(1, 0),
        "acme/nobody.test": Size(0, 0),
    }


async def test_claimed(busy: Store) -> None:
    assert await busy.count_claimed() == {"acme/y.test": 1}


async def test_front(busy: Store) -> None:
    front = (await busy.read_fronts(["acme/y.test"]))["acme/y.test"]
    assert front.due is not None
    assert 45 < front.due - time.time() <= 50
    assert front.oldest == 1000
    nothing = (await busy.read_fronts(["acme/nobody.test"]))["acme/nobody.test"]
    assert (nothing.due, nothing.oldest) == (None, None)


async def test_what_is_due(busy: Store) -> None:
    first, second = await busy.read_due("acme/y.test", 0, 10)
    assert (first.accepted, second.accepted) == (1001, 1000)
    assert 45 < first.until - time.time() <= 50 < second.until - time.time() <= 100
    assert await busy.read_due("acme/y.test", 1, 10) == [second]
    assert await busy.read_due("acme/y.test", 2, 10) == []


async def test_sites(busy: Store) -> None:
    await note_site(busy, "big", "acme/y.test")
    assert await busy.read_sites(["acme/y.test", "acme/z.test/urgent"]) == {
        "acme/y.test": "big",
        "acme/z.test/urgent": "",
    }


async def test_queues_with_something_ready(busy: Store) -> None:
    await post(busy, "bob@y.test", priority="bulk")
    found = await busy.list_ready_queues(["acme", "globex"], "y.test", ["a"])
    assert sorted(found) == ["acme/y.test", "acme/y.test/bulk"]


async def test_position(store: Store) -> None:
    ids = []

    async def put() -> None:
        delivery = make_delivery("y.test")
        await store.accept([delivery], EVENT, b"hello")
        ids.append(delivery.id)

    for _ in range(3):
        await put()
    async with trio.open_nursery() as nursery:
        for _ in range(600):
            nursery.start_soon(put)
    await put()
    assert await store.find_position("acme/y.test", ids[2], depth=1000) == 2
    assert await store.find_position("acme/y.test", ids[-1], depth=1000) == 603
    assert await store.find_position("acme/y.test", ids[-1], depth=500) is None
    assert await store.find_position("acme/y.test", "nobody.0", depth=1000) is None


async def test_where_a_delivery_is(store: Store) -> None:
    message = await post(store, "u@y.test")
    assert await store.read_place(f"{message}.0", "y.test") is None
    claim = await Claims(store).take_one("y.test")
    place = await store.read_place(claim.delivery.id, "y.test")
    assert place is not None
    assert (place.state, place.queue) == ("claimed", "acme/y.test")
    await store.defer(claim, EVENT, wait=9, source="b")
    place = await store.read_place(claim.delivery.id, "y.test")
    assert place is not None
    assert (place.state, place.queue, place.attempts) == ("due", "acme/y.test@b", 1)


async def test_next_look(busy: Store) -> None:
    look = (await busy.read_looks(["acme/y.test"]))["acme/y.test"]
    assert look is not None
    assert 45 < look - time.time() <= 50
    assert await busy.read_looks(["acme/z.test/urgent"]) == {"acme/z.test/urgent": None}
