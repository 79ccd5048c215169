"""Doing several checks at the same time, and having what they found in their order."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from workers.tls.several import do_several

_AT_A_TIME = 8  # most of them wait for the DNS
_T = TypeVar("_T")


async def do_together(roles: Sequence[Callable[[], Awaitable[_T]]]) -> list[_T]:
    """Call each, a few at a time; return what they returned, in this order."""
    found: dict[int, _T] = {}

    async def call(number: int) -> None:
        found[number] = await roles[number]()

    await do_several(call, range(len(roles)), at_a_time=_AT_A_TIME)
    return [found[number] for number in range(len(roles))]
