"""What host groups have shown, in the store: the first and the last time, and that it is forgotten."""

import time

import pytest

from relay.store.keys import find_shard, make_key
from relay.store.learnt import Learnt
from relay.store.link import Link

GROUP = "mx.test+1-0011223344556677"


async def test_nothing_is_known_of_who_was_never_seen(link: Link) -> None:
    assert await Learnt(link).read(GROUP) == (0, 0)


async def test_the_first_time_stays_and_the_last_moves(link: Link) -> None:
    learnt = Learnt(link)
    await learnt.note(GROUP, lifetime=100)
    key = make_key(find_shard(GROUP), "learnt", GROUP)
    await link.call("HSET", key, "first", 1000, "last", 2000)
    await learnt.note(GROUP, lifetime=100)
    first, last = await learnt.read(GROUP)
    assert first == 1000
    assert last == pytest.approx(time.time(), abs=5)


async def test_it_is_forgotten_some_time_after_the_last_one(link: Link) -> None:
    await Learnt(link).note(GROUP, lifetime=100)
    left = await link.call("TTL", make_key(find_shard(GROUP), "learnt", GROUP))
    assert 95 <= left <= 101
    assert await Learnt(link).read("other.test") == (0, 0)
