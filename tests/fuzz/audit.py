"""The audit trail: whatever stands in its files, findings, and never an exception.

The first octet chooses who reads: a chain and its end, or an export. The rest is the file.
"""

import json
import shutil
import tempfile
from pathlib import Path

from relay.audit.chain import find_file
from relay.audit.end import find_end, make_torn
from relay.audit.export import Span, export
from relay.audit.line import START, Head, find_head, make_line, read_beginning
from relay.audit.proof import check_export
from relay.audit.seal import Book, make_event, read_seal
from relay.audit.verify import verify
from tests.fuzz.target import take_octet

_KEY = b"k" * 32
_DAY = "2026-01-01"
_NOW = 1_767_312_000.0  # the day after
_FOLDER = tempfile.TemporaryDirectory(prefix="outgate-fuzz-")
_TRAIL = Path(_FOLDER.name)
_NAMES = ("gw.worker.1", "gw.operator.1")


def _write(events: list[bytes], *, sealed: bool = True) -> bytes:
    """Return the file of a day."""
    head, book, lines = START, Book(), list[bytes]()
    for event in events:
        line = make_line(head, event)
        head = find_head(head.n + 1, line)
        book.note(head.n, bytes.fromhex(head.hash.decode()))
        lines.append(line + b"\n")
    if sealed:
        seal = book.make_seal(_NAMES[0], _DAY, time=_NOW, key=_KEY)
        lines.append(make_line(head, make_event(seal)) + b"\n")
    return b"".join(lines)


_EVENTS = [
    b'{"time":1,"event":"accepted","id":"M1","tenant":"acme"}',
    b'{"time":2,"event":"delivered","delivery":"M1.1","ids":["M2",3]}',
]
_PURGED = (
    b'{"event":"purged","time":1,"purged":{"chain":"gw.worker.1","last":3,"hash":"%b","days":[]}}'
    % (b"0" * 64)
)
_GOOD = _write(_EVENTS)


def _export(file: bytes) -> bytes:
    _lay_out(_NAMES[0], file)
    return b"\n".join(export(_TRAIL, "acme", Span(_DAY, _DAY)))


def _lay_out(name: str, file: bytes) -> Path:
    """Make the trail one of this file alone."""
    for other in _NAMES:
        shutil.rmtree(_TRAIL / other, ignore_errors=True)
    path = _TRAIL / name
    path.mkdir()
    find_file(path, _DAY).write_bytes(file)
    return path


_HALF = _write(_EVENTS, sealed=False)[:-20]
SEEDS = [
    b"\0" + _GOOD,
    b"\0" + _write(_EVENTS, sealed=False),
    b"\0" + _HALF,
    b"\0" + _HALF + b"\n" + make_line(Head(2, b"0" * 64), make_torn(9, 1.0)) + b"\n",
    b"\0" + _GOOD + _GOOD,
    b"\0" + _GOOD + b"\xff",
    b"\0" + _GOOD.replace(b'"chain":', b'"event":"seal","chain":"x","chain":'),
    b"\0" + _GOOD.replace(b"acme", b"evil"),
    b"\0" + _GOOD.replace(b'"hmac":"', b'"hmac":"0'),
    b"\0" + _GOOD.replace(b'"lines":2', b'"lines":"\xff"'),
    b'\0{"n":1,"prev":"' + b"0" * 64 + b'",' + b"[" * 100_000,
    b"\0\n\n\xff\n",
    b"\1" + _write([*_EVENTS, _PURGED]),
    b"\1"
    + _write([_PURGED.replace(b"purged", b"\xff", 1), b'{"event":"purged","x":' + b"[" * 100_000]),
    b"\2" + _export(_GOOD),
    b"\2" + _export(_GOOD).replace(b"acme", b"evil"),
    b"\2" + _export(_GOOD).replace(b'"seal":{', b'"line":{"n":9,"event":"forged"},"seal":{'),
    b'\2{"chain":"c","day":"d","first":1,"hashes":["zz","'
    + b"00" * 32
    + b'"]}\n{"line":'
    + b"[" * 100_000,
]


def _check_trail(name: str, file: bytes) -> None:
    path = _lay_out(name, file)
    end = find_end(path)
    assert end.day == _DAY
    assert end.unended is (bool(file) and not file.endswith(b"\n"))
    report = verify(_TRAIL, keys=[_KEY], now=_NOW)
    assert report.chains == 1
    assert report.lines <= file.count(b"\n")
    if report.is_sound and report.days and name == _NAMES[0]:
        # Nobody has the key here: a day that is sealed is the one that we have sealed. Half a line at
        # the very end of another is no line yet: somebody may be writing it.
        assert file == _GOOD or not end.sealed
    for row in export(_TRAIL, "acme", Span(_DAY, _DAY)):
        assert b"\n" not in row


def _check_export(rows: bytes) -> None:
    proof = check_export(rows.split(b"\n"), [_KEY])
    if proof.faults or proof.unsealed:
        return
    # Whoever reads an export that is sound reads nothing but lines that were looked at.
    shown = [row["line"] for row in map(json.loads, rows.split(b"\n")) if "line" in row]
    assert len(shown) == proof.lines
    assert all(line["event"] in ("accepted", "delivered") for line in shown)


def check(octets: bytes) -> None:
    """What does not fit is found; what is not ours is not taken for ours."""
    how, file = take_octet(octets)
    line = file.partition(b"\n")[0]
    begun = read_beginning(line)
    assert begun is None or (begun.n > 0 and len(begun.hash) == 64)
    read_seal(line)
    if how % 3 == 2:
        _check_export(file)
    else:
        _check_trail(_NAMES[how % 3], file)
