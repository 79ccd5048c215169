"""Doing the same for many, several at a time."""

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import trio

_T = TypeVar("_T")


async def do_several(
    role: Callable[[_T], Awaitable[None]], items: Iterable[_T], *, at_a_time: int
) -> None:
    """Call ``role`` for each item. After an exception no more begin, and the first is raised."""
    left = iter(items)
    troubles: list[Exception] = []

    async def work() -> None:
        for item in left:  # shared: each takes the next
            try:
                await role(item)
            except Exception as trouble:
                troubles.append(trouble)
            if troubles:
                return

    async with trio.open_nursery() as nursery:
        for _ in range(at_a_time):
            nursery.start_soon(work)
    if troubles:
        raise troubles[0]
