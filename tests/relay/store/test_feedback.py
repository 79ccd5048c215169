"""Complaints and late bounces in the store: counted once, kept as long as the story, and taken once."""

import time

import pytest

from relay.config import Config
from relay.events import decode_event, encode_event
from relay.model import make_message_id
from relay.store import feedback
from relay.store.feedback import Complaint, Feedback, LateBounce, take_signals
from relay.store.keys import SHARDS, find_shard, make_key
from relay.store.link import Link
from relay.store.opening import make_link
from relay.store.queue import Store
from tests.kit.messages import EVENT, Claims, find_domains, make_deliveries
from tests.kit.redis import Server

LATE = encode_event({"event": "feedback"})


@pytest.fixture
def desk(link: Link, config: Config) -> Feedback:
    return Feedback(link, config)


async def post(store: Store, domain: str = "y.test") -> str:
    (delivery,) = make_deliveries(domain)
    await store.accept([delivery], EVENT, b"hello")
    return delivery.message_id


async def count(desk: Feedback, message_id: str, what: str = "complaint abuse bob") -> bool | None:
    signal = Complaint(message_id, "acme", "a", "s", "bob@y.test", "abuse")
    return await desk.count(message_id, what, LATE, signal)


async def test_each_kind_and_recipient_counts_once(
    desk: Feedback, store: Store, link: Link
) -> None:
    message_id = await post(store)
    assert await count(desk, message_id) is True
    assert await count(desk, message_id) is False
    assert await count(desk, message_id, "complaint abuse eve") is True

    assert len(await take_signals(link, 10)) == 2
    story = [decode_event(line)["event"] for line in await store.read_story(message_id)]
    assert story.count("feedback") == 2


async def test_a_message_that_is_not_known_costs_nothing(desk: Feedback, server: Server) -> None:
    assert await count(desk, make_message_id(3)) is None

    with server.client() as client:
        assert client.dbsize() == 0


async def test_without_a_signal_there_is_none(desk: Feedback, store: Store, link: Link) -> None:
    assert await desk.count(await post(store), "not-spam", LATE) is True

    assert await take_signals(link, 10) == []


async def test_the_story_keeps_its_end_and_what_was_counted_outlives_it(
    desk: Feedback, store: Store, server: Server
) -> None:
    message_id = await post(store)
    shard = find_shard("y.test")
    story, counted = make_key(shard, "story", message_id), make_key(shard, "feedback", message_id)
    with server.client() as client:
        await count(desk, message_id)
        assert client.pttl(story) == -1  # it is queued: no end
        await store.settle(await Claims(store).take_one("y.test"), EVENT)
        client.pexpire(story, 500_000)
        await count(desk, message_id, "bounce")
        assert 0 < client.pttl(story) <= 500_000
        assert client.pttl(counted) > 86_400_000


async def test_signals_are_taken_once_and_of_a_shard_the_oldest_first(
    desk: Feedback, store: Store, link: Link
) -> None:
    message_id = await post(store)
    for number in range(5):
        await count(desk, message_id, str(number))
        signal = LateBounce(message_id, "acme", recipient=f"r{number}@y.test", status="5.1.1")
        await desk.count(message_id, f"bounce {number}", LATE, signal)

    first, rest = await take_signals(link, 4), await take_signals(link, 100)

    assert (len(first), len(rest)) == (4, 6)
    bounces = [one for one in [*first, *rest] if isinstance(one, LateBounce)]
    assert [one.recipient for one in bounces] == [f"r{number}@y.test" for number in range(5)]
    assert await take_signals(link, 100) == []


async def test_signals_of_all_shards_are_found(desk: Feedback, store: Store, link: Link) -> None:
    ids = {await post(store, domain) for domain in find_domains(SHARDS)}
    for message_id in ids:
        await count(desk, message_id)

    taken = await take_signals(link, 5) + await take_signals(link, 100)

    assert len(taken) == SHARDS
    assert {one.message_id for one in taken} == ids


async def test_nobody_takes_them_and_the_oldest_go(
    desk: Feedback, store: Store, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback, "_MOST", 3)
    message_id = await post(store)
    for number in range(5):
        signal = LateBounce(message_id, "acme", status=f"5.0.{number}")
        await desk.count(message_id, str(number), LATE, signal)

    assert [one.status for one in await take_signals(link, 9) if isinstance(one, LateBounce)] == [
        "5.0.2", "5.0.3", "5.0.4",
    ]  # fmt: skip


async def test_what_another_version_wrote_is_passed_over(link: Link, desk: Feedback) -> None:
    await link.call("LPUSH", make_key(3, "signals"), b'{"type":"praise"}')
    await link.call("LPUSH", make_key(3, "signals"), b"nonsense")

    assert await take_signals(link, 10) == []
    assert await link.call("LLEN", make_key(3, "signals")) == 0


async def test_two_workers_share_them(desk: Feedback, store: Store, server: Server) -> None:
    message_id = await post(store)
    for number in range(20):
        await count(desk, message_id, str(number))
    links = [make_link(server.url, timeout=10) for _ in range(2)]
    start = time.monotonic()
    taken = 0
    while taken < 20 and time.monotonic() - start < 5:
        for link in links:
            taken += len(await take_signals(link, 3))
    for link in links:
        await link.aclose()
    assert taken == 20
