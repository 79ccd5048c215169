"""The index of messages: who wrote to whom, and what became of it, found by any of it.

``admin.db`` in the state directory, made of the events as they are heard (hearing.py), a second or two
behind. It knows what it has heard and nothing else: what happened while the admin service was away is
not in it, nor what came faster than it could write. That is no secret: ``since`` and ``gaps`` stand in
each answer. The record that has everything is the event log; what is found here is told in full by the
message's story (``outgate explain``).
"""

import logging
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import trio

from relay.config import Config
from relay.errors import RecordsUnavailable
from workers.admin.database import Database
from workers.admin.entry import Event, fold, number_at, tell_time
from workers.admin.filing import SCHEMA, VERSION, choose_bucket, file_entries
from workers.admin.purge import doom, purge_some
from workers.admin.question import (
    Question,
    Wanted,
    describe_entry,
    read_place,
    read_question,
    spell_place,
)
from workers.admin.search import find, find_one

_T = TypeVar("_T")
_log = logging.getLogger("outgate.admin")

WAIT = 1.0  # s that events wait for others, to be written together
_EVENTS = 8000  # that are written together, at most
_QUIET = 10.0  # s without events after which it is noted that we were there
_PURGE = 30.0  # s between two looks at what is too old
_PAUSE = 0.02  # s between two transactions that purge: others write, too
_SLICES = 24  # a bucket is closed when it is so much older than what is forgotten
_PARTIAL = 100_000  # messages of which it is remembered that they are known in part
_GAPS = 1000  # that are remembered, and a hundredth of them told
# A gap that is shorter is none: so long the service is away when it is restarted by nobody's hand.
_LEAST = 2.0

# Returns a message's events from the store; empty when it is not known there, either.
ReadStory = Callable[[str], Awaitable[Sequence[Event]]]


class Index:
    """The file, and whoever writes to it. Made once in a process; ``run`` writes what is heard."""

    def __init__(self, config: Config, *, clock: Callable[[], float] = time.time) -> None:
        """Raises RecordsUnavailable when the file cannot be made."""
        self._remember = config.admin.remember
        self._octets = config.admin.max_index
        self._clock = clock
        self._partial: set[int] = set()
        self._trouble = ""
        self._unheard: list[tuple[float, float, int | None]] = []  # gaps that are not written yet
        self._heard = 0.0  # when events were written, or it was noted that there are none
        self.path = os.path.join(config.state_dir, "admin.db")
        self.database = Database(self.path, SCHEMA, VERSION)

    def close(self) -> None:
        """Close the file, when nobody asks any more."""
        self.database.close()

    # -- writing ------------------------------------------------------------------------------

    async def run(self, events: trio.MemoryReceiveChannel[list[dict[str, Any]]]) -> None:
        """Write down what is heard, until the channel ends or this is cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._purge)
            await self._begin()
            while await self._take(events):
                pass
            nursery.cancel_scope.cancel()

    async def _take(self, events: trio.MemoryReceiveChannel[list[dict[str, Any]]]) -> bool:
        """Wait for events, gather those that come soon after, write them; False at the end."""
        gathered: list[dict[str, Any]] = []
        is_open = True
        with trio.move_on_after(_QUIET) as scope:
            try:
                while len(gathered) < _EVENTS:
                    gathered += await events.receive()
                    scope.deadline = min(scope.deadline, trio.current_time() + WAIT)
            except trio.EndOfChannel:
                is_open = False
        await self.add(gathered)
        return is_open

    async def _begin(self) -> None:
        """Note since when nothing was heard."""
        now = self._clock()
        heard = await self._attempt(lambda connection: _note_begin(connection, now))
        if heard and now - heard >= _LEAST:
            self._unheard.append((heard, now, None))

    async def add(self, events: Sequence[Event]) -> None:
        """Write events down. What cannot be written is missing, and the answers say so."""
        now = self._clock()
        for event in events:
            if event.get("event") in ("missed", "dropped"):
                self._note_gap(event, now)
        if await self._attempt(lambda connection: self._write(connection, events, now)):
            self._unheard.clear()
        elif events:
            self._unheard.append((self._heard or now, now, len(events)))
            del self._unheard[:-_GAPS]
        self._heard = now

    async def _attempt(self, act: Callable[[sqlite3.Connection], _T]) -> _T | None:
        """Write; None when that cannot be: trouble is told once, until all is well again."""
        try:
            done = await self.database.write(act)
        except RecordsUnavailable as error:
            if not self._trouble:
                _log.warning("what happens to messages is not written down now: %s", error)
            self._trouble = str(error)
            return None
        self._trouble = ""
        return done

    def _note_gap(self, event: Event, now: float) -> None:
        """Others could not tell us, or we could not listen."""
        start, count = event.get("since", self._heard or now), event.get("count")
        if not isinstance(start, int | float):
            start = now
        if count is None and now - start < _LEAST:
            return
        self._unheard.append((min(start, now), now, count if isinstance(count, int) else None))

    def _write(self, connection: sqlite3.Connection, events: Sequence[Event], now: float) -> bool:
        entries = fold(events)
        if entries:
            oldest = number_at(now - self._remember / _SLICES)
            bucket = choose_bucket(connection, entries, oldest)
            file_entries(connection, entries, bucket, self._partial)
        if len(self._partial) > _PARTIAL:
            self._partial.clear()
        connection.executemany("INSERT INTO gaps VALUES (?, ?, ?)", self._unheard)
        _note_begin(connection, now)
        return True

    # -- forgetting ---------------------------------------------------------------------------

    async def _purge(self) -> None:
        while True:
            await self.purge()
            await trio.sleep(_PURGE)

    async def purge(self) -> None:
        """Forget what is too old, or too much."""
        while await self._attempt(self._purge_some):  # noqa: ASYNC110
            await trio.sleep(_PAUSE)

    def _purge_some(self, connection: sqlite3.Connection) -> bool:
        oldest = self._clock() - self._remember
        connection.execute("DELETE FROM gaps WHERE stop < ?", (oldest,))
        connection.execute(
            "DELETE FROM gaps WHERE rowid <= (SELECT max(rowid) FROM gaps) - ?", (_GAPS,)
        )
        doomed = doom(connection, oldest=number_at(oldest), octets=self._octets)
        return doomed and purge_some(connection)

    # -- searching ----------------------------------------------------------------------------

    async def search(self, asked: Question, read_story: ReadStory | None = None) -> dict[str, Any]:
        """Return ``{"messages", "since", "gaps", "next"}``.

        Raises ValueError for what cannot be asked, RecordsUnavailable. ``read_story``: is asked about
        an id that is not known here; may raise as the store does.
        """
        wanted, after = read_question(asked), read_place(asked.after)

        def ask(connection: sqlite3.Connection, deadline: float) -> dict[str, Any]:
            if wanted.number is not None:
                messages, place = find_one(connection, wanted.number), None
            else:
                page = find(connection, wanted, after, deadline)
                messages, place = page.messages, page.next
            return {"messages": messages, "next": spell_place(place), **_tell_gaps(connection)}

        found = await self.database.read(ask)
        if wanted.number is not None and not found["messages"] and read_story is not None:
            found["messages"] = await _ask_story(wanted, asked, read_story)
        return found


async def _ask_story(
    wanted: Wanted, asked: Question, read_story: ReadStory
) -> list[dict[str, Any]]:
    assert wanted.number is not None
    entries = fold(await read_story(asked.id.partition(".")[0].upper()))
    return [describe_entry(entry, tell_time(entry.number)) for entry in entries[:1]]


def _note_begin(connection: sqlite3.Connection, now: float) -> float | None:
    """Return when somebody was here last; None: never."""
    connection.execute("INSERT OR IGNORE INTO facts VALUES ('since', ?)", (now,))
    row = connection.execute("SELECT value FROM facts WHERE name = 'heard'").fetchone()
    connection.execute("INSERT OR REPLACE INTO facts VALUES ('heard', ?)", (now,))
    return None if row is None else row[0]


def _tell_gaps(connection: sqlite3.Connection) -> dict[str, Any]:
    row = connection.execute("SELECT value FROM facts WHERE name = 'since'").fetchone()
    gaps = connection.execute(
        "SELECT start, stop, missed FROM gaps ORDER BY rowid DESC LIMIT ?", (_GAPS // 100,)
    )
    return {
        "since": row[0] if row is not None else None,
        "gaps": [{"from": start, "to": stop, "missed": missed} for start, stop, missed in gaps],
    }
