"""What was going on, over time: how much mail, how much waited, what receivers thought of our sources.

``history.db`` in the state directory. Every ten seconds what has been counted is read, every minute the
grid of sources and sites; kept in steps of ten seconds for two hours, of a minute for two days, and of
ten minutes for ``admin.remember``. While the admin service is away nobody looks, and there is a gap.
"""

import logging
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
import trio

from relay.config import Config
from relay.errors import OutgateError, RecordsUnavailable, StoreError, StoreUnavailable
from relay.store.counters import Books
from relay.store.queue import Store
from workers.admin.database import Database
from workers.admin.samples import (
    LEAST,
    STEPS,
    Grid,
    Reading,
    Sample,
    add,
    align,
    draw_flow,
    draw_last,
    make_reading,
    plan,
    subtract,
)

_log = logging.getLogger("outgate.admin")

STEP = min(STEPS)
_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS samples (
    step INTEGER, time INTEGER, seconds REAL, counts TEXT, queued INTEGER,
    PRIMARY KEY (step, time)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS names (number INTEGER PRIMARY KEY, name TEXT UNIQUE);
CREATE TABLE IF NOT EXISTS standings (
    step INTEGER, source INTEGER, site INTEGER, time INTEGER, score REAL, pace REAL,
    PRIMARY KEY (step, source, site, time)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS backlogs (
    step INTEGER, site INTEGER, time INTEGER, queued INTEGER, PRIMARY KEY (step, site, time)
) WITHOUT ROWID
"""
# A grid of more cells is cut: with these two days are some hundred MiB.
_CELLS = 1000
_SITES = 200
_NEVER = 1 << 62  # behind all times
_FORGET = 600.0  # s between two looks at what is too old

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, int]).decode

# {"cells": [{"source", "site", "score", "pace", "known"}], "queued": {site: deliveries}}
ReadGrid = Callable[[], Awaitable[Mapping[str, Any]]]


class ReadTotals(Protocol):
    """Where the totals come from: the store, or a test."""

    async def __call__(self, now: float) -> Reading:
        """Raises StoreUnavailable, StoreError."""


class History:
    """The file, and who writes it. Made once in a process; ``run`` looks, and writes down."""

    def __init__(
        self,
        config: Config,
        read_totals: ReadTotals,
        read_grid: ReadGrid | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises RecordsUnavailable when the file cannot be made."""
        self._remember = config.admin.remember
        self._read_totals = read_totals
        self._read_grid = read_grid
        self._clock = clock
        self._last: Reading | None = None
        self._grid_at = 0
        self._forgot = 0.0
        self._trouble = ""
        self.path = os.path.join(config.state_dir, "history.db")
        self._database = Database(self.path, _SCHEMA, _VERSION)

    def close(self) -> None:
        """Close the file, when nobody asks any more."""
        self._database.close()

    # -- looking ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look every STEP seconds, when a step is over; until cancelled."""
        while True:
            now = self._clock()
            await trio.sleep(align(now, STEP) + STEP - now)
            await self.look()

    async def look(self) -> None:
        """Look now. Where the store does not answer there is a gap."""
        now = self._clock()
        try:
            reading = await self._read_totals(now)
        except (StoreUnavailable, StoreError):
            self._last = None
            return
        before, self._last = self._last, reading
        sample = subtract(before, reading, STEP) if before is not None else None
        grid = await self._look_at_grid(now)
        if sample is not None or grid is not None:
            await self._write(sample, grid, now)

    async def _look_at_grid(self, now: float) -> Mapping[str, Any] | None:
        minute = align(now, LEAST)
        if self._read_grid is None or minute == self._grid_at:
            return None
        try:
            grid = await self._read_grid()
        except (OutgateError, trio.TooSlowError):
            return None
        self._grid_at = minute
        return grid

    async def _write(
        self, sample: Sample | None, grid: Mapping[str, Any] | None, now: float
    ) -> None:
        def write(connection: sqlite3.Connection) -> None:
            if sample is not None:
                _write_sample(connection, sample)
            if grid is not None:
                _write_grid(connection, grid, now)
            if now - self._forgot >= _FORGET:
                self._forgot = now
                _forget(connection, now, self._remember)

        try:
            await self._database.write(write)
        except RecordsUnavailable as error:
            if not self._trouble:
                _log.warning("what is going on is not written down now: %s", error)
            self._trouble = str(error)
        else:
            self._trouble = ""

    # -- telling ------------------------------------------------------------------------------

    async def flow(self, window: float) -> dict[str, Any]:
        """Return the flow of mail in the last ``window`` seconds.

        Raises ValueError, RecordsUnavailable.
        """
        grid = plan(window, self._clock())
        return draw_flow(
            await self._database.read(lambda connection, _: _read_samples(connection, grid)), grid
        )

    async def standing(self, source: str, site: str, window: float) -> dict[str, Any]:
        """Return score and pace of a source at a site, and what waited for the site.

        Raises ValueError, RecordsUnavailable.
        """
        grid = plan(window, self._clock(), least=LEAST)
        standing, backlog = await self._database.read(
            lambda connection, _: (
                _read_standing(connection, grid, source, site),
                _read_backlog(connection, grid, site),
            )
        )
        score, pace = draw_last(standing, grid, 2)
        (queued,) = draw_last(backlog, grid, 1)
        return {
            "step": grid.step, "start": grid.start, "score": score, "pace": pace, "queued": queued,
        }  # fmt: skip


def read_totals_of(store: Store) -> ReadTotals:
    """Return what reads the totals of a store."""
    books = Books(store.link)

    async def read_totals(now: float) -> Reading:
        ledger = await store.read_ledger()
        return make_reading(now, ledger["ledger"], await books.read())

    return read_totals


# -- writing --------------------------------------------------------------------------------------


def _write_sample(connection: sqlite3.Connection, sample: Sample) -> None:
    for step in STEPS:
        place = (step, align(sample.time, step))
        row = connection.execute(
            "SELECT time, seconds, counts, queued FROM samples WHERE step = ? AND time = ?", place
        ).fetchone()
        both = add(_read_sample(row) if row is not None else None, sample, step)
        connection.execute(
            "INSERT OR REPLACE INTO samples VALUES (?, ?, ?, ?, ?)",
            (*place, both.seconds, _encode(both.counts).decode(), both.queued),
        )


def _read_sample(row: Sequence[Any]) -> Sample:
    time, seconds, counts, queued = row
    return Sample(time, seconds, _decode(counts), queued)


def _write_grid(connection: sqlite3.Connection, grid: Mapping[str, Any], now: float) -> None:
    # What nothing is known of has a score, too: that of a beginner. It is not worth a line.
    cells = [cell for cell in grid["cells"] if cell["known"] or cell["pace"] is not None][:_CELLS]
    queued = list(grid["queued"].items())[:_SITES]
    names = {name for cell in cells for name in (cell["source"], cell["site"])}
    numbers = _number(connection, names | {site for site, _ in queued})
    for step in STEPS:
        if step < LEAST:
            continue
        at = align(now, step)
        connection.executemany(
            "INSERT OR REPLACE INTO standings VALUES (?, ?, ?, ?, ?, ?)",
            [
                (step, numbers[c["source"]], numbers[c["site"]], at, c["score"], c["pace"])
                for c in cells
            ],
        )
        connection.executemany(
            "INSERT OR REPLACE INTO backlogs VALUES (?, ?, ?, ?)",
            [(step, numbers[site], at, count) for site, count in queued],
        )


def _number(connection: sqlite3.Connection, names: set[str]) -> dict[str, int]:
    """Return the numbers of names; they stand in each line, and are shorter."""
    connection.executemany(
        "INSERT OR IGNORE INTO names (name) VALUES (?)", [(name,) for name in names]
    )
    return {
        name: connection.execute("SELECT number FROM names WHERE name = ?", (name,)).fetchone()[0]
        for name in names
    }


def _forget(connection: sqlite3.Connection, now: float, remember: float) -> None:
    before = {step: now - min(kept, max(remember, 86400.0)) for step, kept in STEPS.items()}
    for step, oldest in before.items():
        connection.execute("DELETE FROM samples WHERE step = ? AND time < ?", (step, oldest))
    for table, columns in (("standings", "step, source, site"), ("backlogs", "step, site")):
        _forget_lines(connection, table, columns, before)


def _forget_lines(
    connection: sqlite3.Connection, table: str, columns: str, before: Mapping[int, float]
) -> None:
    """From one line to the next, by the table's own order: nothing in between is looked at."""
    marks = ", ".join("?" * (columns.count(",") + 2))
    following = (
        f"SELECT {columns} FROM {table} WHERE ({columns}, time) > ({marks})"  # noqa: S608
        f" ORDER BY {columns}, time LIMIT 1"
    )
    where = columns.replace(",", " = ? AND")
    delete = f"DELETE FROM {table} WHERE {where} = ? AND time < ?"  # noqa: S608
    key: tuple[float, ...] = (-1,) * (columns.count(",") + 1)
    while (row := connection.execute(following, (*key, _NEVER)).fetchone()) is not None:
        key = row
        connection.execute(delete, (*key, before.get(int(key[0]), _NEVER)))


# -- reading --------------------------------------------------------------------------------------


def _read_samples(connection: sqlite3.Connection, grid: Grid) -> list[Sample]:
    rows = connection.execute(
        "SELECT time, seconds, counts, queued FROM samples"
        " WHERE step = ? AND time >= ? ORDER BY time",
        (grid.base, grid.start),
    )
    return [_read_sample(row) for row in rows]


def _read_standing(
    connection: sqlite3.Connection, grid: Grid, source: str, site: str
) -> list[tuple[float, tuple[float, float | None]]]:
    rows = connection.execute(
        "SELECT time, score, pace FROM standings WHERE step = ?"
        " AND source = (SELECT number FROM names WHERE name = ?)"
        " AND site = (SELECT number FROM names WHERE name = ?) AND time >= ? ORDER BY time",
        (grid.base, source, site, grid.start),
    )
    return [(time, (score, pace)) for time, score, pace in rows]


def _read_backlog(
    connection: sqlite3.Connection, grid: Grid, site: str
) -> list[tuple[float, tuple[int]]]:
    rows = connection.execute(
        "SELECT time, queued FROM backlogs WHERE step = ?"
        " AND site = (SELECT number FROM names WHERE name = ?) AND time >= ? ORDER BY time",
        (grid.base, site, grid.start),
    )
    return [(time, (queued,)) for time, queued in rows]
