"""An audit trail to be looked at, and to be done harm to."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from relay.audit.chain import list_chains, list_days, try_hold
from relay.audit.findings import Known, Report
from relay.audit.line import Head, find_head, read_beginning
from relay.audit.seal import is_seal
from relay.audit.trail import Trail
from relay.audit.verify import verify
from relay.events import encode_event

START = 1_767_225_600.0  # 2026-01-01 00:00 UTC
DAY = 86_400.0
KEY = b"k" * 32


class WallClock:
    """The time of day, set by the test."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def begin(
    base: Path,
    name: str = "gw.worker.1",
    *,
    clock: Callable[[], float] = time.time,
    key: bytes = KEY,
) -> Trail:
    """Go on with a chain of any name."""
    path = base / name
    path.mkdir(parents=True, exist_ok=True)
    held = try_hold(path)
    assert held is not None
    return Trail(held, clock=clock, key=key)


def make_event(number: int, tenant: str = "acme", **more: object) -> bytes:
    """Return an event."""
    return encode_event(
        {"time": START, "event": "accepted", "id": f"M{number:05}", "tenant": tenant, **more}
    )


def write_days(base: Path, counts: Sequence[int], name: str = "gw.worker.1", **more: bytes) -> None:
    """Write so many lines a day, beginning with START; the last day stays open."""
    clock = WallClock()
    trail = begin(base, name, clock=clock, **more)
    number = 0
    for day, count in enumerate(counts):
        clock.now = START + day * DAY + 3600
        trail.flush()
        for _ in range(count):
            number += 1
            trail.write(make_event(number))
            if number % 1000 == 0:
                trail.flush()
        trail.flush()
    trail.close()


def look(base: Path) -> Known:
    """Return what the store would know of a trail as it is."""
    heads: dict[str, Head] = {}
    seals: dict[str, dict[str, Head]] = {}
    for path in list_chains(base):
        for day in list_days(path):
            for line in (path / f"{day}.jsonl").read_bytes().splitlines():
                begun = read_beginning(line)
                if begun is None:
                    continue
                heads[path.name] = find_head(begun.n, line)
                if is_seal(line, line.index(b'",') + 2):
                    seals.setdefault(path.name, {})[day] = heads[path.name]
    return Known(heads, seals)


def check(base: Path, known: Known | None = None, **more: float) -> Report:
    """Verify, with the key."""
    return verify(base, keys=[KEY], known=known, **more)


def say(report: Report) -> list[str]:
    """Return the findings' texts."""
    return [one.text for one in report.findings]
