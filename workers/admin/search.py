"""Searching the index: a page of messages, the newest first, in bounded time.

Whatever is asked, something with an index leads: the rarest word, else the first letters of an address,
else an outcome, else the order of messages. What it leads to is looked at in that order, some thousand
at a time, and what else must hold is tried. When the time is over the page ends where it is, with
``next`` to go on from; so a page may be short, or empty, and not be the last.

What leads by words goes bucket by bucket: in the order in which messages became known here, which is
nearly that of their numbers. Everything that people wrote goes to SQLite as a parameter.
"""

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from workers.admin.entry import BOUNCED, OUTCOMES, QUEUED, tell_time
from workers.admin.question import Place, Wanted, end_prefix, list_domains
from workers.admin.terms import RECIPIENT

WINDOW = 5000  # messages that are looked at in one go
_ADDRESSES = 50  # of a message that are looked at for its domains
_COLUMNS = (
    "m.n, m.id, m.b, m.time, m.tenant, m.sender, m.message_id, m.size, m.recipients, m.outcome"
)
_HIGHEST = (1 << 63) - 1

Row = tuple[Any, ...]  # _COLUMNS


@dataclass
class Page:
    """What was found, as people see it; ``next``: where to go on, None at the end."""

    messages: list[dict[str, object]]
    next: Place | None


def find(
    connection: sqlite3.Connection, wanted: Wanted, after: Place | None, deadline: float
) -> Page:
    """Return a page. ``deadline``: of time.monotonic(); one window is always looked at."""
    rows: list[Row] = []
    place: Place | None = None
    for window in _list_windows(connection, wanted, after):
        if place is not None and time.monotonic() >= deadline:
            return _make_page(connection, rows, place)
        rows += connection.execute(*window.make(wanted, wanted.limit - len(rows)))
        if len(rows) >= wanted.limit:
            return _make_page(connection, rows, Place(window.bucket, rows[-1][0]))
        place = window.then
    return _make_page(connection, rows, None)


def find_one(connection: sqlite3.Connection, number: int) -> list[dict[str, object]]:
    """Return the message of a number, if it is known."""
    sql = f"SELECT {_COLUMNS} FROM messages m WHERE m.n = ?"  # noqa: S608
    rows = connection.execute(sql, (number,))
    return _make_page(connection, rows.fetchall(), None).messages


# -- windows --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Window:
    """Some messages to look at: ``sql`` yields their numbers, the highest first.

    ``end``: the last of them; None: there are no more in this bucket.
    """

    sql: str
    arguments: tuple[object, ...]
    bucket: int | None
    end: int | None
    skip: int = 0  # words that need not be tried: they led here
    skip_prefix: int = 0

    @property
    def then(self) -> Place:
        """Where to go on behind it."""
        if self.end is not None:
            return Place(self.bucket, self.end)
        if self.bucket is not None:
            return Place(self.bucket - 1, _HIGHEST)
        return Place(None, -_HIGHEST)

    def make(self, wanted: Wanted, limit: int) -> tuple[str, tuple[object, ...]]:
        """Return the statement for those of them that are wanted."""
        where, arguments = _make_conditions(
            wanted.terms[self.skip :], wanted.prefixes[self.skip_prefix :], wanted.outcome
        )
        # CROSS JOIN: SQLite keeps the order of the loops, and so that of the messages.
        sql = (
            f"SELECT {_COLUMNS} FROM ({self.sql}) c CROSS JOIN messages m ON m.n = c.n"  # noqa: S608
            f" WHERE {where} LIMIT ?"
        )
        return sql, (*self.arguments, *arguments, limit)


def _make_conditions(
    terms: tuple[str, ...], prefixes: tuple[str, ...], outcome: int | None
) -> tuple[str, list[object]]:
    where, arguments = ["1"], list[object]()
    for term in terms:
        where.append("EXISTS (SELECT 1 FROM terms t WHERE t.b = m.b AND t.term = ? AND t.n = m.n)")
        arguments.append(term)
    for prefix in prefixes:
        start = prefix[1:]
        if prefix[0] == RECIPIENT:
            where.append(
                "EXISTS (SELECT 1 FROM recipients r"
                " WHERE r.n = m.n AND r.address >= ? AND r.address < ?)"
            )
        else:
            where.append("lower(m.sender) >= ? AND lower(m.sender) < ?")
        arguments += (start, end_prefix(start))
    if outcome is not None:
        where.append("m.outcome = ?")
        arguments.append(outcome)
    return " AND ".join(where), arguments


def _list_windows(
    connection: sqlite3.Connection, wanted: Wanted, after: Place | None
) -> Iterator[_Window]:
    if wanted.terms:
        yield from _follow_term(connection, wanted, after)
    elif wanted.prefixes:
        yield from _follow_prefix(connection, wanted, after)
    else:
        yield from _follow_numbers(connection, wanted, after)


def _list_buckets(
    connection: sqlite3.Connection, wanted: Wanted, after: Place | None
) -> Iterator[tuple[int, int]]:
    """Yield the buckets that may have something, and below which number of theirs."""
    first = after.bucket if after is not None and after.bucket is not None else _HIGHEST
    rows = connection.execute(
        "SELECT b FROM buckets WHERE b <= ? AND NOT doomed AND low < ? AND high >= ? ORDER BY b DESC",
        (first, wanted.high, wanted.low),
    ).fetchall()
    for (bucket,) in rows:
        below = wanted.high
        if after is not None and bucket == after.bucket:
            below = min(below, after.number)
        yield bucket, below


def _follow_term(
    connection: sqlite3.Connection, wanted: Wanted, after: Place | None
) -> Iterator[_Window]:
    sql = (
        "SELECT n FROM terms WHERE b = ? AND term = ? AND n < ? AND n >= ? ORDER BY n DESC LIMIT ?"
    )
    for bucket, start in _list_buckets(connection, wanted, after):
        below: int | None = start
        while below is not None:
            arguments = (bucket, wanted.terms[0], below, wanted.low, WINDOW)
            below = _find_end(connection, sql, arguments)
            yield _Window(sql, arguments, bucket, below, skip=1)


def _follow_prefix(
    connection: sqlite3.Connection, wanted: Wanted, after: Place | None
) -> Iterator[_Window]:
    prefix = wanted.prefixes[0]
    for bucket, below in _list_buckets(connection, wanted, after):
        # In the order of words, not of numbers; but no more than a bucket holds.
        found = connection.execute(
            "SELECT DISTINCT n FROM terms"
            " WHERE b = ? AND term >= ? AND term < ? AND n < ? AND n >= ?",
            (bucket, prefix, end_prefix(prefix), below, wanted.low),
        )
        numbers = sorted((number for (number,) in found), reverse=True)
        for at in range(0, len(numbers) or 1, WINDOW):
            page = numbers[at : at + WINDOW]
            end = page[-1] if at + WINDOW < len(numbers) else None
            text = f"[{','.join(map(str, page))}]"
            sql = "SELECT value AS n FROM json_each(?)"
            yield _Window(sql, (text,), bucket, end, skip_prefix=1)


def _follow_numbers(
    connection: sqlite3.Connection, wanted: Wanted, after: Place | None
) -> Iterator[_Window]:
    index = {QUEUED: "INDEXED BY queued", BOUNCED: "INDEXED BY bounced"}
    using = index.get(-1 if wanted.outcome is None else wanted.outcome, "")
    outcome = f"outcome = {wanted.outcome} AND" if using else ""
    sql = (
        f"SELECT n FROM messages {using} WHERE {outcome} n < ? AND n >= ?"  # noqa: S608
        " ORDER BY n DESC LIMIT ?"
    )
    below: int | None = wanted.high if after is None else min(after.number, wanted.high)
    while below is not None:
        arguments = (below, wanted.low, WINDOW)
        below = _find_end(connection, sql, arguments)
        yield _Window(sql, arguments, None, below)


def _find_end(
    connection: sqlite3.Connection, sql: str, arguments: tuple[object, ...]
) -> int | None:
    """Return the last number of a full window; None: the window is the last one."""
    row = connection.execute(f"{sql} OFFSET {WINDOW - 1}", arguments).fetchone()
    return None if row is None else row[0]


# -- rows -----------------------------------------------------------------------------------------


def _make_page(connection: sqlite3.Connection, rows: list[Row], place: Place | None) -> Page:
    return Page([_describe(connection, *row) for row in rows], place)


def _describe(
    connection: sqlite3.Connection,
    number: int,
    identity: str,
    _bucket: int,
    accepted: int | None,
    tenant: str,
    sender: str | None,
    message_id: str | None,
    size: int | None,
    recipients: int,
    outcome: int,
) -> dict[str, object]:
    addresses = connection.execute(
        "SELECT address FROM recipients WHERE n = ? LIMIT ?", (number, _ADDRESSES)
    )
    return {
        "id": identity,
        "time": accepted / 1000 if accepted is not None else tell_time(number),
        "tenant": tenant,
        "sender": sender,
        "recipients": recipients,
        "domains": list_domains(address for (address,) in addresses),
        "message_id": message_id,
        "size": size,
        "outcome": OUTCOMES[outcome],
    }
