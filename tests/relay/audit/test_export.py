"""What is exported, whose it is, and what an export shows by itself."""

import json
from pathlib import Path
from typing import Any

import pytest

from relay.audit.export import BLOCK, Span, export
from relay.audit.proof import Proof, check_export
from relay.events import encode_event
from tests.kit.trail import DAY, KEY, START, WallClock, begin, look, make_event

SPAN = Span("2026-01-01", "2026-01-02", 10 * DAY)


def take(base: Path, tenant: str = "acme", span: Span = SPAN) -> list[bytes]:
    return list(export(base, tenant, span))


def read_lines(rows: list[bytes]) -> list[dict[str, Any]]:
    return [row["line"] for row in map(json.loads, rows) if "line" in row]


def prove(rows: list[bytes], **more: Any) -> Proof:
    return check_export(rows, [KEY], **more)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    clock = WallClock()
    ingress, worker = begin(tmp_path, "gw.ingress.1", clock=clock), begin(tmp_path, clock=clock)
    for number in range(6):
        ingress.write(make_event(number, "acme" if number % 2 else "globex"))
    # Scripts of the store tell of messages, and not of tenants.
    for number in (2, 3):
        worker.write(encode_event({"event": "reclaimed", "id": f"M{number:05}", "time": START}))
    worker.write(encode_event({"event": "retried", "ids": ["M00002", "M00001"], "time": START}))
    worker.write(encode_event({"event": "suspended", "site": "google", "time": START}))
    for trail in (ingress, worker):
        clock.now = START + DAY
        trail.flush()
        trail.write(make_event(9, "globex"))
        trail.close()
        clock.now = START
    return tmp_path


def test_a_tenants_lines_and_those_of_its_messages(base: Path) -> None:
    lines = read_lines(take(base))
    assert [(line["event"], line.get("id")) for line in lines] == [
        ("accepted", "M00001"),
        ("accepted", "M00003"),
        ("accepted", "M00005"),
        ("reclaimed", "M00003"),
        ("retried", None),
    ]


def test_lines_are_octet_for_octet_what_stands_there(base: Path) -> None:
    written = (base / "gw.ingress.1" / "2026-01-01.jsonl").read_bytes().splitlines()
    rows = take(base)
    assert rows[1] == b'{"chain":"gw.ingress.1","day":"2026-01-01","line":%b}' % written[1]


def test_days_outside_are_left_out(base: Path) -> None:
    assert read_lines(take(base, span=Span("2026-01-02", "2026-01-09", DAY))) == []
    (head,) = take(base, span=Span("2026-01-02", "2026-01-09", DAY))
    assert json.loads(head)["tenant"] == "acme"


def test_an_export_is_proved_by_its_seals(base: Path) -> None:
    proof = prove(take(base), seals=look(base).seals)
    assert (proof.lines, proof.seals, proof.unsealed, proof.faults) == (5, 2, [], [])


def test_days_that_are_not_over_have_no_seal_yet(base: Path) -> None:
    proof = prove(take(base, "globex"))
    assert proof.unsealed == ["gw.ingress.1, 2026-01-02", "gw.worker.1, 2026-01-02"]
    assert proof.faults == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"id":"M00001"', b'"id":"M00007"'),
        (b'"n":2,', b'"n":3,'),
        (b'"lines":6', b'"lines":5'),
        (b'"digest":"', b'"digest":"0'),
        (b'"hmac":"', b'"hmac":"0'),
        (b'"hashes":["', b'"hashes":["0'),
        (b'"day":"2026-01-01"', b'"day":"2026-01-02"'),
    ],
)
def test_what_was_changed_in_an_export(base: Path, old: bytes, new: bytes) -> None:
    rows = take(base)
    changed = [row.replace(old, new) for row in rows]
    assert changed != rows
    assert prove(changed).faults


def test_what_was_put_into_an_export(base: Path) -> None:
    rows = take(base)
    assert prove([*rows[:2], rows[1].replace(b'"n":2', b'"n":77'), *rows[2:]]).faults
    assert prove([*rows, b"garbage"]).faults


@pytest.mark.parametrize(
    "place", [b'"export":', b'"first":', b'"hashes":', b'"seal":', b'"line":', b'"chain":']
)
def test_what_was_put_into_a_row_is_no_line_that_was_checked(base: Path, place: bytes) -> None:
    forged = b'"line":{"n":1,"event":"accepted","id":"M77777"},'
    rows = take(base)
    changed = [row.replace(place, forged + place, 1) for row in rows]
    assert changed != rows
    assert prove(changed).faults


def test_a_row_that_is_none(base: Path) -> None:
    rows = take(base)
    for row in (rows[0], b"{}", b'{"line":' + b"[" * 100_000):
        assert len(prove([*rows, row]).faults) == 1


def test_seals_that_the_store_does_not_know(base: Path) -> None:
    other = {"gw.ingress.1": {"2026-01-01": look(base).heads["gw.worker.1"]}}
    assert "the store knows another seal" in prove(take(base), seals=other).faults[0]


def test_a_long_day(tmp_path: Path) -> None:
    clock = WallClock()
    trail = begin(tmp_path, clock=clock)
    for number in range(3 * BLOCK + 7):
        trail.write(make_event(number, "acme" if number % 3 else "globex"))
    clock.now += DAY
    trail.close()
    proof = prove(take(tmp_path))
    assert (proof.lines, proof.seals, proof.faults) == (2 * BLOCK + 4, 1, [])
