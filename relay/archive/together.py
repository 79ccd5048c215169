"""Several calls at a time, with one error: what a nursery would wrap in a group."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import trio

from relay.errors import OutgateError

_T = TypeVar("_T")


async def together(calls: Sequence[Callable[[], Awaitable[_T]]]) -> list[_T]:
    """Return what the calls return, in their order.

    When one of them raises an error of ours the others are cancelled, and that error is raised.
    """
    done: dict[int, _T] = {}
    errors: list[OutgateError] = []

    async def run(number: int, call: Callable[[], Awaitable[_T]]) -> None:
        try:
            done[number] = await call()
        except OutgateError as error:
            errors.append(error)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for number, call in enumerate(calls):
            nursery.start_soon(run, number, call)
    if errors:
        raise errors[0]
    return [done[number] for number in range(len(calls))]
