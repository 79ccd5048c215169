"""Several reads at a time: all of them, in order, or the first error."""

import pytest
import trio

from relay.errors import StoreUnavailable
from relay.store.gather import gather


async def test_they_run_together_and_are_told_in_order(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def read(number: int) -> int:
        await trio.sleep(number)
        return number * 2

    found = await gather(read, [3, 1, 2, 1])
    assert list(found.items()) == [(3, 6), (1, 2), (2, 4)]
    assert trio.current_time() < 3.1


async def test_an_error_of_ours_comes_out_as_it_is() -> None:
    async def read(number: int) -> int:
        if number:
            raise StoreUnavailable(f"away {number}", executed=False)
        return number

    with pytest.raises(StoreUnavailable, match="away"):
        await gather(read, range(5))


async def test_a_bug_does_not_hide_behind_it() -> None:
    async def read(number: int) -> int:
        raise ValueError(number) if number else StoreUnavailable("away", executed=False)

    with pytest.raises(BaseExceptionGroup) as caught:
        await gather(read, range(2))
    assert caught.group_contains(ValueError)


async def test_who_is_cancelled_is_cancelled(autojump_clock: trio.testing.MockClock) -> None:
    with trio.move_on_after(1) as scope:
        await gather(trio.sleep, [2, 3])
    assert scope.cancelled_caught
