"""A SQLite file of the admin service: opened, kept to its shape, made anew when it cannot be read.

What stands in it was heard, or read from the store: it may be lost, and is never asked about by
whoever moves mail. One connection writes; the others read, and neither waits for the other (WAL).
With ``synchronous = NORMAL`` a crash of the machine loses the last seconds, and leaves the file whole.
"""

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import trio

from relay.errors import RecordsUnavailable

_log = logging.getLogger("outgate.admin")
_T = TypeVar("_T")

_READERS = 2
_LOCKED = 5.0  # for another process's lock, s
_CACHE_KIB = 32 * 1024  # of the connection that writes
_STEPS = 20_000  # of SQLite's machine between two looks at the clock; about a millisecond
_UNREADABLE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA wal_autocheckpoint = 4000",  # pages: each is a sync, and disturbs the store's
    "PRAGMA journal_size_limit = 67108864",
    "PRAGMA temp_store = MEMORY",
)


class Database:
    """One file. Everything that waits for it runs in a thread."""

    def __init__(self, path: str, schema: str, version: int, *, patience: float = 0.1) -> None:
        """``version`` of the ``schema``: a file of another is made anew.

        ``patience``: seconds that a question may take.
        """
        self.path = path
        self._schema = schema
        self._version = version
        self._patience = patience
        self._writing = trio.CapacityLimiter(1)
        self._reading = trio.CapacityLimiter(_READERS)
        self._readers: list[sqlite3.Connection] = []
        self._opened = 0  # how often: what was opened before is of another file
        # None: the file could not be begun anew when it had to be. It is tried again.
        self._writer: sqlite3.Connection | None = self._open()

    # -- opening ------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        try:
            try:
                return self._make()
            except sqlite3.DatabaseError as error:
                if not _is_unreadable(error):
                    raise
                self._remove(error)
                return self._make()
        except (OSError, sqlite3.DatabaseError) as error:
            raise RecordsUnavailable(f"cannot open {self.path}: {error}") from error

    def _make(self) -> sqlite3.Connection:
        # Nobody else may read who writes to whom: SQLite gives its other files the same mode.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = _connect(self.path)
        try:
            for pragma in (*_PRAGMAS, f"PRAGMA cache_size = -{_CACHE_KIB}"):
                connection.execute(pragma)
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, self._version):
                raise _make_stale(version)
            connection.executescript(
                f"BEGIN; {self._schema}; PRAGMA user_version = {self._version}; COMMIT"
            )
        except BaseException:
            connection.close()
            raise
        return connection

    def _remove(self, error: sqlite3.DatabaseError) -> None:
        _log.warning("%s cannot be read (%s): it is begun anew", self.path, error)
        for suffix in ("", "-wal", "-shm"):
            Path(self.path + suffix).unlink(missing_ok=True)

    # -- writing ------------------------------------------------------------------------------

    async def write(self, act: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run ``act`` in a transaction, in a thread. Raises RecordsUnavailable; then nothing is written.

        A file that turns out to be damaged is begun anew: the next one finds it empty.
        """
        return await trio.to_thread.run_sync(self._write, act, limiter=self._writing)

    def _write(self, act: Callable[[sqlite3.Connection], _T]) -> _T:
        self._writer = self._writer or self._open()
        try:
            with _transaction(self._writer):
                return act(self._writer)
        except sqlite3.DatabaseError as error:
            if _is_unreadable(error):
                self._close_all()
                self._remove(error)
                self._writer = self._open()
            raise RecordsUnavailable(f"cannot write to {self.path}: {error}") from error

    # -- reading ------------------------------------------------------------------------------

    async def read(self, ask: Callable[[sqlite3.Connection, float], _T]) -> _T:
        """Run ``ask`` in a thread; it is given a connection, and when it should have done.

        What takes five times as long is cut off. Raises RecordsUnavailable.
        """
        return await trio.to_thread.run_sync(self._read, ask, limiter=self._reading)

    def _read(self, ask: Callable[[sqlite3.Connection, float], _T]) -> _T:
        opened = self._opened
        try:
            connection = self._readers.pop() if self._readers else _connect(self.path)
            end = time.monotonic() + self._patience
            last = end + 4 * self._patience
            connection.set_progress_handler(lambda: time.monotonic() > last, _STEPS)
            try:
                return ask(connection, end)
            finally:
                connection.set_progress_handler(None, 0)
                if opened == self._opened:
                    self._readers.append(connection)
                else:
                    connection.close()
        except sqlite3.DatabaseError as error:
            if _find_code(error) == sqlite3.SQLITE_INTERRUPT:
                raise RecordsUnavailable("this takes too long: ask for less") from error
            raise RecordsUnavailable(f"cannot read {self.path}: {error}") from error

    # -- the end ------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the file. Nobody may use it any more."""
        self._close_all()

    def _close_all(self) -> None:
        while self._readers:
            self._readers.pop().close()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._opened += 1


def _connect(path: str) -> sqlite3.Connection:
    # Each is used by one thread at a time, and not always the same.
    return sqlite3.connect(
        path, timeout=_LOCKED, isolation_level=None, check_same_thread=False, cached_statements=64
    )


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk may have rolled it back already
            connection.execute("ROLLBACK")
        raise


def _find_code(error: sqlite3.DatabaseError) -> int:
    """Return SQLite's primary code; 0 for what Python's own module has against it."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def _is_unreadable(error: sqlite3.DatabaseError) -> bool:
    return _find_code(error) in _UNREADABLE


def _make_stale(version: int) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(f"it is of version {version}")
    error.sqlite_errorcode = sqlite3.SQLITE_NOTADB
    return error
