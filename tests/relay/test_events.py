import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import trio

from relay.events import EventLog, decode_event, encode_event


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "events.jsonl"


def read(path: Path) -> list[dict[str, object]]:
    return [decode_event(line) for line in path.read_bytes().splitlines()]


def test_an_event_is_one_line_whatever_is_in_it() -> None:
    event = {"event": "accepted", "sender": "a\nb\u2028\x00ü", "size": 1, "tls": ""}

    line = encode_event(event)

    assert b"\n" not in line
    assert decode_event(line) == event
    with pytest.raises(msgspec.DecodeError):
        decode_event(line[:-1])


def test_lines_are_gathered_and_written_together(path: Path) -> None:
    log = EventLog(str(path))
    log.write(b'{"n":1}')
    log.write(b'{"n":2}')
    assert path.read_bytes() == b""

    log.flush()
    log.flush()

    assert read(path) == [{"n": 1}, {"n": 2}]


def test_much_is_written_at_once(path: Path) -> None:
    log = EventLog(str(path))

    log.write(b'"%s"' % (b"x" * 70_000))

    assert path.stat().st_size == 70_003


def test_several_processes_share_the_file(path: Path) -> None:
    one, two = EventLog(str(path)), EventLog(str(path))
    for number in range(10):
        (one if number % 2 else two).write(b'{"n":%d}' % number)
        one.flush()
        two.flush()

    assert read(path) == [{"n": number} for number in range(10)]


def test_only_its_owner_writes_the_file(path: Path) -> None:
    EventLog(str(path))

    assert path.stat().st_mode & 0o027 == 0


async def test_what_was_written_is_flushed_in_time_and_at_the_end(
    path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    log = EventLog(str(path))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.run)
        log.write(b'{"n":1}')
        await trio.sleep(0.3)
        assert read(path) == [{"n": 1}]
        log.write(b'{"n":2}')
        nursery.cancel_scope.cancel()

    assert read(path) == [{"n": 1}, {"n": 2}]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_reported_once_and_costs_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = EventLog("/dev/full")
    for _ in range(3):
        log.write(b"{}")
        log.flush()

    assert caplog.messages == ["cannot write events to /dev/full: No space left on device"]
    assert log._lines == []


def test_stdout_is_a_log_too() -> None:
    script = (
        "from relay.events import EventLog; log = EventLog('stdout'); log.write(b'{}'); log.flush()"
    )

    done = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        cwd=Path(__file__).parents[2],
        env=os.environ,
    )

    assert done.stdout == b"{}\n"


class Trail:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.trouble = ""
        self.told: list[object] = []

    def write(self, event: bytes) -> None:
        self.told.append(event)

    def flush(self) -> None:
        self.told.append("flush")

    async def run(self) -> None:
        self.told.append("run")

    def close(self) -> None:
        self.told.append("close")


async def test_the_trail_has_what_the_log_has(
    path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    trail = Trail()
    log = EventLog(str(path), trail)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.run)
        log.write(b'{"n":1}')
        await trio.sleep(0.3)
        nursery.cancel_scope.cancel()
    log.close()

    assert read(path) == [{"n": 1}]
    assert [one for one in trail.told if one != "flush"] == [b'{"n":1}', "run", "close"]
    assert trail.told.count("flush") >= 2


def test_a_trail_in_trouble_is_the_log_s_trouble(path: Path) -> None:
    trail = Trail()
    assert EventLog(str(path)).trouble == ""
    log = EventLog(str(path), trail)
    assert log.trouble == ""
    trail.trouble = "no space"
    assert log.trouble == "no space"
