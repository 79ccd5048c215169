"""Who waits at a terminal for what was asked for: Ctrl-C interrupts it, and progress is a line each."""

import sys
from collections.abc import Callable

from relay.signals import wait_for_stop


class Terminal:
    """A Watch (workers/operations/seizure.py) for commands."""

    async def run(self, interrupt: Callable[[], None]) -> None:
        """Interrupt at the first signal; the second ends the process."""
        await wait_for_stop(interrupt)

    def tell(self, deliveries: int) -> None:
        """Print progress, for who waits, or reads a log."""
        print(f"outgate: {deliveries:,} deliveries so far", file=sys.stderr)
