"""Forgetting: what is too old goes from the index, and the oldest when the file is too large.

A bucket at a time, some thousand rows in each transaction: whoever reads waits for none of it, and who
writes waits for one. A bucket that is to go is not searched any more. What it leaves free in the file
is used again: the file does not shrink.
"""

import sqlite3

from workers.admin.entry import tell_time
from workers.admin.terms import TENANT

ROWS = 1000  # messages, or so many times five words, in one transaction
_SPARE = 1 << 20  # octets below the limit, for what is written until the next look


def count_octets(connection: sqlite3.Connection) -> int:
    """Return how much of the file is in use."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def doom(connection: sqlite3.Connection, *, oldest: int, octets: int) -> bool:
    """Mark the oldest bucket if it has to go: all of it before number ``oldest``, or the file too large.

    Returns whether there is something to purge.
    """
    if connection.execute("SELECT 1 FROM buckets WHERE doomed LIMIT 1").fetchone():
        return True
    first = connection.execute("SELECT b, high FROM buckets ORDER BY b LIMIT 1").fetchone()
    if first is None:
        return False
    bucket, high = first
    if high >= oldest and count_octets(connection) <= octets - _SPARE:
        return False
    connection.execute("UPDATE buckets SET doomed = 1 WHERE b = ?", (bucket,))
    connection.execute(
        "INSERT INTO facts VALUES ('since', ?) ON CONFLICT (name)"
        " DO UPDATE SET value = max(value, excluded.value)",
        (tell_time(high),),
    )
    return True


def purge_some(connection: sqlite3.Connection) -> bool:
    """Remove some of a doomed bucket; False when none is left."""
    row = connection.execute("SELECT b FROM buckets WHERE doomed ORDER BY b LIMIT 1").fetchone()
    if row is None:
        return False
    (bucket,) = row
    if not _purge_messages(connection, bucket) and not _purge_terms(connection, bucket):
        connection.execute("DELETE FROM buckets WHERE b = ?", (bucket,))
    return True


def _purge_messages(connection: sqlite3.Connection, bucket: int) -> bool:
    """By the words of their tenants: every message has one."""
    found = connection.execute(
        "SELECT term, n FROM terms WHERE b = ? AND term >= ? AND term < ? LIMIT ?",
        (bucket, TENANT, chr(ord(TENANT) + 1), ROWS),
    ).fetchall()
    numbers = [(number,) for _, number in found]
    connection.executemany("DELETE FROM recipients WHERE n = ?", numbers)
    connection.executemany("DELETE FROM messages WHERE n = ?", numbers)
    connection.executemany(
        "DELETE FROM terms WHERE b = ? AND term = ? AND n = ?",
        [(bucket, term, number) for term, number in found],
    )
    return bool(found)


def _purge_terms(connection: sqlite3.Connection, bucket: int) -> bool:
    end = connection.execute(
        "SELECT term, n FROM terms WHERE b = ? ORDER BY term, n LIMIT 1 OFFSET ?",
        (bucket, 5 * ROWS),
    ).fetchone()
    if end is None:
        return connection.execute("DELETE FROM terms WHERE b = ?", (bucket,)).rowcount > 0
    connection.execute("DELETE FROM terms WHERE b = ? AND (term, n) < (?, ?)", (bucket, *end))
    return True
