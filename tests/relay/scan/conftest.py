"""Scanners for tests, on real daemons or on servers that do what a test says."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from relay.config import Config, policy
from relay.events import EventLog, decode_event
from relay.scan.scanner import Scanner, make_scanners
from tests.kit import clamd as clamd_kit
from tests.kit import rspamd as rspamd_kit

Make = Callable[..., Scanner]
ReadEvents = Callable[[], list[dict[str, object]]]


@pytest.fixture
def clamd_program() -> Iterator[clamd_kit.Clamd]:
    """One of our own, for who lets it fail."""
    if obstacle := clamd_kit.find_obstacle():
        pytest.skip(obstacle)
    with clamd_kit.Clamd() as program:
        yield program


@pytest.fixture(scope="session")
def clamd() -> Iterator[clamd_kit.Clamd]:
    if obstacle := clamd_kit.find_obstacle():
        pytest.skip(obstacle)
    with clamd_kit.Clamd() as program:
        yield program


@pytest.fixture
def rspamd_program() -> Iterator[rspamd_kit.Rspamd]:
    """One of our own, for who lets it fail."""
    if obstacle := rspamd_kit.find_obstacle():
        pytest.skip(obstacle)
    with rspamd_kit.Rspamd() as program:
        yield program


@pytest.fixture(scope="session")
def rspamd() -> Iterator[rspamd_kit.Rspamd]:
    if obstacle := rspamd_kit.find_obstacle():
        pytest.skip(obstacle)
    with rspamd_kit.Rspamd() as program:
        yield program


@pytest.fixture
def events(tmp_path: Path) -> EventLog:
    return EventLog(str(tmp_path / "events.jsonl"))


@pytest.fixture
def read_events(events: EventLog, tmp_path: Path) -> ReadEvents:
    def read() -> list[dict[str, object]]:
        events.flush()
        return [
            decode_event(line) for line in (tmp_path / "events.jsonl").read_bytes().splitlines()
        ]

    return read


@pytest.fixture
async def make(config: Config, events: EventLog) -> AsyncIterator[Make]:
    """Make scanners, and close them in the end."""
    made: list[Scanner] = []

    def make(kind: str, address: str, **settings: Any) -> Scanner:
        one = policy.Scanner(name="x", kind=kind, address=address, **settings)  # type: ignore[arg-type]
        scanner = make_scanners(msgspec.structs.replace(config, scanner=(one,)), events)["x"]
        made.append(scanner)
        return scanner

    yield make
    for scanner in made:
        await scanner.aclose()
