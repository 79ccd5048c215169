"""What the admin service makes of what it hears: messages, to be searched, figures over time, traces.

Both files can be done without: what cannot be made or written is told once, and the rest goes on.
"""

import functools
import logging
import os
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import trio

from relay.config import Config
from relay.errors import RecordsUnavailable
from relay.events import decode_event
from relay.store.queue import Store
from workers.admin.hearing import Event, Hearing
from workers.admin.history import History, read_totals_of
from workers.admin.index import Index
from workers.admin.office import Office
from workers.admin.question import Question
from workers.tracing.tracer import Tracer, make_tracer
from workers.views.grid import read_grid

_log = logging.getLogger("outgate.admin")

Book = TypeVar("Book", Index, History)


class Records:
    """The books of one service."""

    def __init__(self, office: Office) -> None:
        """Open them, and give them to who asks. Raises StartError: traces are wanted and cannot be made."""
        config, store = office.config, office.store
        self._hearing = office.hearing
        self._index = _open("messages cannot be searched", config, lambda: Index(config))
        self._tracer = make_tracer(config)
        totals = read_totals_of(store)
        self._history = _open(
            "figures over time are not kept",
            config,
            lambda: History(config, totals, functools.partial(_read_grid, office)),
        )
        if self._index is not None:
            office.search = functools.partial(_search, self._index, store)
        if self._history is not None:
            office.flow = self._history.flow
            office.standing_history = self._history.standing

    async def run(self) -> None:
        """Write, until cancelled."""
        async with trio.open_nursery() as nursery:
            if self._index is not None:
                nursery.start_soon(_listen, self._hearing, self._index)
            if self._history is not None:
                nursery.start_soon(self._history.run)
            if self._tracer is not None:
                nursery.start_soon(_trace, self._hearing, self._tracer)

    def close(self) -> None:
        """Close them, when nobody asks any more."""
        for book in (self._index, self._history):
            if book is not None:
                book.close()


def _open(what: str, config: Config, make: Callable[[], Book]) -> Book | None:
    try:
        os.makedirs(config.state_dir, exist_ok=True)  # with a store elsewhere nobody has made it
        return make()
    except (OSError, RecordsUnavailable) as error:
        _log.warning("%s: %s", what, error)
        return None


async def _listen(hearing: Hearing, index: Index) -> None:
    async with hearing.open() as heard:
        await index.run(heard)


async def _trace(hearing: Hearing, tracer: Tracer) -> None:
    async with hearing.open() as heard:
        await tracer.run(heard)


async def _search(index: Index, store: Store, **given: object) -> dict[str, Any]:
    async def read_story(message_id: str) -> list[Event]:
        return [decode_event(line) for line in await store.read_story(message_id)]

    return await index.search(msgspec.convert(given, Question), read_story)


async def _read_grid(office: Office) -> dict[str, Any]:
    picture = await office.snapshot.read()
    return await read_grid(office.store, office.config, picture.backlog)
