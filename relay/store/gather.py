"""Several reads at a time: what they ask travels to the store together, instead of one by one."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import trio

from relay.errors import OutgateError, flatten

Item = TypeVar("Item")
Result = TypeVar("Result")


async def gather(
    read: Callable[[Item], Awaitable[Result]], items: Iterable[Item]
) -> dict[Item, Result]:
    """Call ``read`` for each of some items, at the same time; return what it returned, in order.

    Raises the first error of ours, as one call would. How many there are is the caller's business.
    """
    found: dict[Item, Result] = {}
    wanted = list(dict.fromkeys(items))

    async def one(item: Item) -> None:
        found[item] = await read(item)

    try:
        async with trio.open_nursery() as nursery:
            for item in wanted:
                nursery.start_soon(one, item)
    except BaseExceptionGroup as group:
        ours, others = group.split(OutgateError)
        if others is not None or ours is None:
            raise
        raise next(flatten(ours)) from group
    return {item: found[item] for item in wanted}


async def together(**reads: Callable[[], Awaitable[Any]]) -> dict[str, Any]:
    """Read several things of different kinds at the same time, each by its name; raises as ``gather``."""
    return await gather(lambda name: reads[name](), reads)
