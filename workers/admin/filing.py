"""Writing entries into the index: its tables, and what of a message goes where.

Words (``terms``) stand in *buckets*: some ten thousand messages that came one after the other. What is
new is so written close together, whatever it is about: of words that are spread over the whole file
each message would dirty half a dozen pages. Who looks for a word looks into each bucket, the newest
first; and what is old goes a bucket at a time.
"""

import sqlite3
from collections.abc import Iterable, Iterator

from workers.admin.entry import Entry
from workers.admin.terms import list_terms

VERSION = 1
# ``n`` is entry.read_number; of a message that was heard of in part ``time`` and more are null.
SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    n INTEGER PRIMARY KEY, id TEXT, b INTEGER, time INTEGER, tenant TEXT, sender TEXT,
    message_id TEXT, size INTEGER, recipients INTEGER, outcome INTEGER
);
CREATE INDEX IF NOT EXISTS queued ON messages (n) WHERE outcome = 0;
CREATE INDEX IF NOT EXISTS bounced ON messages (n) WHERE outcome = 2;
CREATE TABLE IF NOT EXISTS recipients (
    n INTEGER, address TEXT, outcome INTEGER, time INTEGER, site TEXT, source TEXT,
    PRIMARY KEY (n, address)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS terms (
    b INTEGER, term TEXT, n INTEGER, PRIMARY KEY (b, term, n)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS buckets (
    b INTEGER PRIMARY KEY, rows INTEGER, begun INTEGER, low INTEGER, high INTEGER, doomed INTEGER
);
CREATE TABLE IF NOT EXISTS gaps (start REAL, stop REAL, missed INTEGER);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value REAL) WITHOUT ROWID
"""
BUCKET = 40_000  # recipients; their words, about 15 MB, fit into the writer's cache

_ADD_MESSAGE = "INSERT OR IGNORE INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
# What was heard of in part is completed; what was complete stays as it is.
_COMPLETE = """
UPDATE messages SET time = ?2, tenant = ?3, sender = ?4, message_id = ?5, size = ?6
WHERE n = ?1 AND time IS NULL
"""
# Never back: what is delivered is not queued because its acceptance is heard of later.
_ADD_RECIPIENT = """
INSERT INTO recipients VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (n, address) DO UPDATE
SET outcome = excluded.outcome, time = excluded.time, site = excluded.site, source = excluded.source
WHERE excluded.outcome >= outcome AND excluded.time > 0
"""
_ADD_TERM = "INSERT OR IGNORE INTO terms VALUES (?, ?, ?)"
_COUNT = """
UPDATE messages SET (recipients, outcome) = (
    SELECT count(*), CASE min(outcome) WHEN 0 THEN 0 ELSE max(outcome) END
    FROM recipients WHERE recipients.n = ?1
) WHERE n = ?1
"""
_KNOWN = "SELECT b FROM messages WHERE n = ?"


def file_entries(
    connection: sqlite3.Connection, entries: Iterable[Entry], bucket: int, partial: set[int]
) -> None:
    """Write entries, new and known ones. New ones go into ``bucket``.

    ``partial``: numbers of messages that are there in part, as far as it is remembered; new ones join.
    """
    new: list[Entry] = []
    known: list[tuple[Entry, int]] = []
    for entry in entries:
        found = None
        # Almost all that is complete is new, and not looked for: nobody's events come twice.
        if entry.time is None or entry.number in partial:
            found = connection.execute(_KNOWN, (entry.number,)).fetchone()
        if found is None:
            new.append(entry)
        else:
            known.append((entry, found[0]))
    connection.executemany(_ADD_MESSAGE, [_spell(entry, bucket) for entry in new])
    connection.executemany(_ADD_RECIPIENT, _spell_people(new))
    terms = [(bucket, term, entry.number) for entry in new for term in list_terms(entry)]
    connection.executemany(_ADD_TERM, terms)
    if known:
        _file_known(connection, known)
    partial.update(entry.number for entry in new if entry.time is None)
    partial.difference_update(entry.number for entry in new if entry.time is not None)


def _file_known(connection: sqlite3.Connection, known: list[tuple[Entry, int]]) -> None:
    for entry, bucket in known:
        if entry.time is not None:
            connection.execute(_COMPLETE, (entry.number, *_spell(entry, bucket)[3:8]))
            terms = [(bucket, term, entry.number) for term in list_terms(entry)]
            connection.executemany(_ADD_TERM, terms)
    connection.executemany(_ADD_RECIPIENT, _spell_people(entry for entry, _ in known))
    connection.executemany(_COUNT, [(entry.number,) for entry, _ in known])


def _spell(entry: Entry, bucket: int) -> tuple[object, ...]:
    return (
        entry.number,
        entry.id,
        bucket,
        entry.time,
        entry.tenant,
        entry.sender,
        entry.message_id,
        entry.size,
        len(entry.people),
        entry.outcome,
    )


def _spell_people(entries: Iterable[Entry]) -> Iterator[tuple[object, ...]]:
    for entry in entries:
        number = entry.number
        for address, (outcome, time, site, source) in entry.people.items():
            yield number, address, outcome, time, site, source


# -- buckets --------------------------------------------------------------------------------------


def choose_bucket(connection: sqlite3.Connection, entries: list[Entry], oldest: int) -> int:
    """Return the bucket for new messages, and count them; another one when the last is full.

    ``oldest``: a bucket that began with an earlier number is closed, full or not, so that
    little becomes too old at a time.
    """
    rows = sum(len(entry.people) for entry in entries)
    low = min(entry.number for entry in entries)
    high = max(entry.number for entry in entries)
    last = connection.execute(
        "SELECT b, rows, begun, doomed FROM buckets ORDER BY b DESC LIMIT 1"
    ).fetchone()
    bucket: int = last[0] if last is not None else 0
    if last is None or last[1] >= BUCKET or last[2] < oldest or last[3]:
        bucket += 1
        row = (bucket, rows, high, low, high, 0)
        connection.execute("INSERT INTO buckets VALUES (?, ?, ?, ?, ?, ?)", row)
        return bucket
    connection.execute(
        "UPDATE buckets SET rows = rows + ?2, low = min(low, ?3), high = max(high, ?4) WHERE b = ?1",
        (bucket, rows, low, high),
    )
    return bucket
