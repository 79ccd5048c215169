"""The record of a decision about the archive: in the event log, and in the store if it is there."""

import trio

from relay.config import Config
from relay.errors import StartError, StoreError, StoreUnavailable
from relay.store.suspension import Suspensions
from workers.cli.asking import open_store
from workers.cli.page import warn
from workers.operations.decision import Decision


def write_event(decided: Decision, name: str, **facts: object) -> bytes:
    """Write an event now, and return it. Blocks. Raises StartError when it cannot be kept."""
    event = decided.make_event(name, **facts)
    decided.write(event)
    return event


async def note(config: Config, decided: Decision, name: str, **facts: object) -> None:
    """Write an event to the log, and keep it among the decisions in the store.

    The archive stands without the store, and a hold must not wait for one: without it there is a
    warning.
    """
    event = await trio.to_thread.run_sync(lambda: write_event(decided, name, **facts))
    try:
        async with open_store(config) as store:
            await Suspensions(store.link).record(event)
    except (StartError, StoreError, StoreUnavailable) as error:
        warn(f"only the event log has a record of this, the store has not: {error}")
