"""Several at a time, and no more."""

import pytest
import trio
from trio.testing import MockClock

from workers.tls.several import do_several


async def test_all_are_done_several_at_a_time(autojump_clock: MockClock) -> None:
    done: list[int] = []
    busy = most = 0

    async def role(item: int) -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await trio.sleep(item % 3)
        busy -= 1
        done.append(item)

    await do_several(role, range(50), at_a_time=4)

    assert sorted(done) == list(range(50))
    assert most == 4


async def test_the_first_trouble_ends_it(autojump_clock: MockClock) -> None:
    begun: list[int] = []

    async def role(item: int) -> None:
        begun.append(item)
        await trio.sleep(1)
        if item in (2, 3):
            raise ValueError(item)

    with pytest.raises(ValueError, match=r"2|3"):
        await do_several(role, range(50), at_a_time=2)
    assert sorted(begun) == [0, 1, 2, 3]


async def test_nothing_to_do() -> None:
    await do_several(trio.sleep, [], at_a_time=3)
