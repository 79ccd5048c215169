"""Stopping on request: the first SIGTERM or SIGINT is an order to finish, the second to leave."""

import os
import signal
from collections.abc import Callable

import trio


async def wait_for_stop(begin: Callable[[], None]) -> None:
    """Call ``begin`` at the first signal; at the second end the process at once, and say so."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            begin()
            break
        async for number in signals:
            # Whatever is held is in the store; claims that we leave behind are reclaimed.
            os._exit(128 + number)
