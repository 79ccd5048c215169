"""A tenant's lines, taken out of the trail, with what shows that they stood in it.

An export is JSON, a row a line:

    {"export":1,"tenant":...,"from":...,"to":...,"time":...}
    {"chain":...,"day":...,"line":{...}}                  a line, octet for octet as it stands there
    {"chain":...,"day":...,"first":7,"hashes":["..."]}    hashes of the day's lines from number 7 on,
                                                          behind the exported ones among them
    {"chain":...,"day":...,"seal":{...}}                  the day's seal, once it is over

The hashes of a day are all of them, also of lines that are not exported: a seal commits to that
list. So an export proves that its lines stood in sealed days at these places, unchanged; and who
has the key, or asks the store, that the seals are ours. It says nothing about the other lines: neither
what is in them nor that none of them is the tenant's. Days without any of its lines are left out.

Whose a line is, it says itself; or it names a message that another line says is the tenant's. A line
about several messages (an operator's command) is exported when one of them is.
"""

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec

from relay.audit.chain import find_day, find_end, find_file, list_chains, list_days, read_lines
from relay.audit.line import MAX_LINE, UNREADABLE, Head, find_head, make_beginning, read_beginning
from relay.audit.seal import is_seal

BLOCK = 500  # hashes in a row
_MEMORY = 16 << 10  # KiB of ids that are held in memory; more are in a temporary file


_NOTHING = msgspec.Raw(b"")


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """A row of an export."""

    export: int = 0
    tenant: str = ""
    start: str = msgspec.field(default="", name="from")
    end: str = msgspec.field(default="", name="to")
    time: float = 0.0
    chain: str = ""
    day: str = ""
    line: msgspec.Raw = _NOTHING
    first: int = 0
    hashes: tuple[str, ...] = ()
    seal: msgspec.Raw = _NOTHING


class _Said(msgspec.Struct, frozen=True):
    """What a line may say about whose it is; any of it may be anything."""

    tenant: object = None
    id: object = None
    delivery: object = None
    what: object = None
    about: object = None
    ids: object = None

    def list_ids(self) -> list[str]:
        """Return the messages that it names."""
        named = [self.id, self.delivery, self.what, self.about]
        if isinstance(self.ids, list):
            named += self.ids
        return [one.partition(".")[0] for one in named if isinstance(one, str)]


@dataclass(frozen=True, slots=True)
class Span:
    """Days (UTC), both included. ``lead``: seconds before them in which messages may have begun."""

    start: str
    end: str
    lead: float = 0.0

    @property
    def first(self) -> str:
        """The first day that is looked at."""
        return find_day(find_end(self.start) - 86_400 - self.lead)


_encode = msgspec.json.Encoder().encode
_read = msgspec.json.Decoder(_Said).decode


def export(directory: Path, tenant: str, span: Span) -> Iterator[bytes]:
    """Yield the rows of an export, without line ends. Raises StartError, OSError."""
    yield _encode(Row(export=1, tenant=tenant, start=span.start, end=span.end, time=time.time()))
    with _Messages(tenant) as messages:
        for file in _list_files(directory, span.first, span.end):
            messages.note(file)
        for path in list_chains(directory):
            for day in list_days(path):
                if span.start <= day <= span.end:
                    yield from _export_day(path, day, messages)


def _list_files(directory: Path, first: str, last: str) -> Iterator[Path]:
    for path in list_chains(directory):
        for day in list_days(path):
            if first <= day <= last:
                yield find_file(path, day)


class _Messages:
    """The tenant's messages: as many as there are, in bounded memory."""

    def __init__(self, tenant: str) -> None:
        self._tenant = tenant
        self._base = sqlite3.connect("")  # a temporary file of its own, once it is large
        self._base.execute(f"PRAGMA cache_size = -{_MEMORY}")
        self._base.execute("CREATE TABLE messages (id TEXT PRIMARY KEY) WITHOUT ROWID")
        self._add = "INSERT OR IGNORE INTO messages VALUES (?)"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()

    def note(self, file: Path) -> None:
        """Note the messages of the tenant that a file tells of."""
        for line in read_lines(file, MAX_LINE):
            said = _decode(line)
            if said is not None and said.tenant == self._tenant and isinstance(said.id, str):
                self._base.execute(self._add, (said.id,))

    def owns(self, line: bytes) -> bool:
        """Tell whether a line is about the tenant."""
        said = _decode(line)
        if said is None:
            return False
        if isinstance(said.tenant, str) and said.tenant:
            return said.tenant == self._tenant
        return any(map(self._has, said.list_ids()))

    def _has(self, message_id: str) -> bool:
        found = self._base.execute("SELECT 1 FROM messages WHERE id = ?", (message_id,))
        return found.fetchone() is not None


def _decode(line: bytes) -> _Said | None:
    try:
        return _read(line)
    except UNREADABLE:
        return None


def _export_day(path: Path, day: str, messages: _Messages) -> Iterator[bytes]:
    file = find_file(path, day)
    if not any(messages.owns(line) for line in read_lines(file, MAX_LINE)):
        return
    first, hashes = 0, list[str]()
    for line in read_lines(file, MAX_LINE):
        if not line.endswith(b"\n"):
            break
        content = line[:-1]
        begun = read_beginning(content)
        n = begun.n if begun is not None else first + len(hashes)
        if begun is not None and is_seal(content, len(make_beginning(Head(n - 1, begun.hash)))):
            yield from _make_hashes(path.name, day, first, hashes)
            hashes = []
            yield _encode(Row(chain=path.name, day=day, seal=msgspec.Raw(content)))
            break
        if len(hashes) == BLOCK:
            yield from _make_hashes(path.name, day, first, hashes)
            hashes = []
        first = first if hashes else n
        hashes.append(find_head(n, content).hash.decode())
        if messages.owns(content):
            yield _encode(Row(chain=path.name, day=day, line=msgspec.Raw(content)))
    yield from _make_hashes(path.name, day, first, hashes)


def _make_hashes(chain: str, day: str, first: int, hashes: list[str]) -> Iterator[bytes]:
    if hashes:
        yield _encode(Row(chain=chain, day=day, first=first, hashes=tuple(hashes)))
