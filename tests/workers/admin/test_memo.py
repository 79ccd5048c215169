"""What was read a moment ago is not read again; what failed, or is old, is."""

import pytest
import trio

from workers.admin import memo as module
from workers.admin.memo import Memo


class Counter:
    def __init__(self) -> None:
        self.calls = 0
        self.broken = False

    async def read(self) -> int:
        self.calls += 1
        await trio.sleep(0.5)
        if self.broken:
            raise ValueError("broken")
        return self.calls


async def test_who_asks_for_the_same_waits_for_one_read(
    autojump_clock: trio.testing.MockClock,
) -> None:
    memo, counter, found = Memo(), Counter(), []

    async def ask() -> None:
        found.append(await memo.get("a", counter.read))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
    assert (found, counter.calls) == ([1] * 5, 1)
    await trio.sleep(1.01)
    assert await memo.get("a", counter.read) == 2
    assert await memo.get("b", counter.read) == 3
    memo.forget()
    assert await memo.get("a", counter.read) == 4


async def test_a_failure_is_not_kept(autojump_clock: trio.testing.MockClock) -> None:
    memo, counter = Memo(), Counter()
    counter.broken = True
    with pytest.raises(ValueError, match="broken"):
        await memo.get("a", counter.read)
    counter.broken = False
    assert await memo.get("a", counter.read) == 2


async def test_who_leaves_leaves_it_to_the_next(autojump_clock: trio.testing.MockClock) -> None:
    memo, counter = Memo(), Counter()
    with trio.move_on_after(0.1):
        await memo.get("a", counter.read)
    assert await memo.get("a", counter.read) == 2


async def test_so_many_are_kept(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_KEPT", 3)
    memo, counter = Memo(), Counter()
    for key in "abcde":
        await memo.get(key, counter.read, seconds=100)
    assert len(memo._entries) == 3
    assert await memo.get("e", counter.read) == 5
    assert await memo.get("a", counter.read) == 6
