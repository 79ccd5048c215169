"""Writing a chain: lines, days, crashes, disks that are full, and two who want the same."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio

from relay.audit import trail as module
from relay.audit.chain import hold_chain, try_hold
from relay.audit.line import ZEROS, find_head
from relay.audit.trail import Trail, open_trail
from relay.config import Config, read
from relay.errors import StartError
from relay.events import EventLog
from tests.kit.trail import DAY, KEY, START, WallClock, begin, check, look, make_event, say

ROOT = Path(__file__).parents[3]
NAME = "gw.worker.1"


def read_day(base: Path, day: str, name: str = NAME) -> list[dict[str, object]]:
    return [json.loads(line) for line in (base / name / f"{day}.jsonl").read_bytes().splitlines()]


def test_a_line_is_the_event_with_number_and_hash_in_front(tmp_path: Path) -> None:
    trail = begin(tmp_path, clock=WallClock())
    event = make_event(1, sender="ü\u2028")
    trail.write(event)
    trail.write(event)
    trail.close()

    one, two = (tmp_path / NAME / "2026-01-01.jsonl").read_bytes().splitlines()
    assert one == b'{"n":1,"prev":"%b",%b' % (ZEROS, event[1:])
    assert two == b'{"n":2,"prev":"%b",%b' % (find_head(1, one).hash, event[1:])


def test_the_next_process_goes_on(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        trail = begin(tmp_path)
        trail.write(make_event(number))
        trail.close()

    report = check(tmp_path, look(tmp_path))
    assert report.is_sound
    assert (report.chains, report.days, report.lines) == (1, 1, 3)


def test_a_day_ends_with_a_seal(tmp_path: Path) -> None:
    clock = WallClock(START + DAY - 1)
    trail = begin(tmp_path, clock=clock)
    trail.write(make_event(1))
    trail.write(make_event(2))
    clock.now += 2
    trail.flush()
    trail.write(make_event(3))
    trail.close()

    seal = read_day(tmp_path, "2026-01-01")[-1]
    assert seal["event"] == "seal"
    assert (seal["lines"], seal["first"], seal["last"], seal["n"]) == (2, 1, 2, 3)
    assert (seal["chain"], seal["day"]) == (NAME, "2026-01-01")
    assert len(str(seal["hmac"])) == 64
    assert [line["n"] for line in read_day(tmp_path, "2026-01-02")] == [4]
    assert check(tmp_path, look(tmp_path), now=clock.now).notes == []


def test_a_day_without_lines_has_no_file(tmp_path: Path) -> None:
    clock = WallClock()
    trail = begin(tmp_path, clock=clock)
    trail.write(make_event(1))
    for _ in range(3):
        clock.now += DAY
        trail.flush()
    trail.write(make_event(2))
    trail.close()

    assert sorted(file.name for file in (tmp_path / NAME).glob("*.jsonl")) == [
        "2026-01-01.jsonl",
        "2026-01-04.jsonl",
    ]
    assert check(tmp_path, look(tmp_path)).is_sound


async def test_the_day_changes_while_the_log_runs(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    begun = trio.current_time()
    trail = begin(tmp_path, clock=lambda: START + DAY - 10 + trio.current_time() - begun)
    log = EventLog(str(tmp_path / "events"), trail)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.run)
        log.write(make_event(1))
        await trio.sleep(11)
        assert read_day(tmp_path, "2026-01-01")[-1]["event"] == "seal"
        log.write(make_event(2))
        nursery.cancel_scope.cancel()
    log.write(make_event(3))  # by a task that ended after the log
    log.close()

    assert [line["n"] for line in read_day(tmp_path, "2026-01-02")] == [3, 4]
    assert check(tmp_path, look(tmp_path)).is_sound


def test_a_clock_that_goes_back_over_midnight_changes_nothing(tmp_path: Path) -> None:
    clock = WallClock(START + DAY - 1)
    trail = begin(tmp_path, clock=clock)
    trail.write(make_event(1))
    clock.now += 2
    trail.flush()
    clock.now -= 4
    trail.write(make_event(2))
    trail.flush()
    clock.now += 10
    trail.write(make_event(3))
    trail.close()

    assert [line["n"] for line in read_day(tmp_path, "2026-01-02")] == [3, 4]
    assert check(tmp_path, look(tmp_path)).is_sound


def test_a_sealed_day_is_not_opened_again_by_the_next_process(tmp_path: Path) -> None:
    clock = WallClock(START + DAY - 1)
    trail = begin(tmp_path, clock=clock)
    trail.write(make_event(1))
    clock.now += 2
    trail.close()
    clock.now -= 4
    trail = begin(tmp_path, clock=clock)
    trail.write(make_event(2))
    trail.close()

    assert [line["n"] for line in read_day(tmp_path, "2026-01-02")] == [3]
    assert check(tmp_path, look(tmp_path)).is_sound


def test_who_comes_the_next_day_seals_the_last(tmp_path: Path) -> None:
    trail = begin(tmp_path, clock=WallClock())
    trail.write(make_event(1))
    trail.close()
    trail = begin(tmp_path, clock=WallClock(START + 5 * DAY))
    trail.flush()
    trail.write(make_event(2))
    trail.close()

    assert [line["event"] for line in read_day(tmp_path, "2026-01-01")] == ["accepted", "seal"]
    assert check(tmp_path, look(tmp_path)).is_sound


# -- crashes


@pytest.mark.parametrize("left", [1, 5, 70, 80, 100, 130])
def test_half_a_line_stays_and_is_told_of(tmp_path: Path, left: int) -> None:
    trail = begin(tmp_path, clock=WallClock())
    trail.write(make_event(1))
    trail.write(make_event(2))
    trail.close()
    file = tmp_path / NAME / "2026-01-01.jsonl"
    one, two = file.read_bytes().splitlines()
    file.write_bytes(one + b"\n" + two[:left])
    assert check(tmp_path).is_sound

    trail = begin(tmp_path, clock=WallClock())
    trail.write(make_event(3))
    trail.close()

    lines = file.read_bytes().splitlines()
    assert lines[1] == two[:left]
    told = json.loads(lines[2])
    assert (told["event"], told["n"], told["octets"]) == ("torn", 3, left)
    report = check(tmp_path, look(tmp_path))
    assert report.is_sound, report.findings
    assert report.lines == 4
    # It is as good as a line: nobody can change it.
    file.write_bytes(file.read_bytes().replace(two[:left] + b"\n", b"x" * left + b"\n"))
    assert not check(tmp_path, look(tmp_path)).is_sound


def test_half_of_the_very_first_line(tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.mkdir()
    (path / "2026-01-01.jsonl").write_bytes(b'{"n":1,"pr')
    clock = WallClock()
    trail = begin(tmp_path, clock=clock)
    trail.write(make_event(1))
    clock.now += DAY
    trail.close()

    report = check(tmp_path, look(tmp_path))
    assert report.is_sound, report.findings
    assert report.lines == 4


def test_a_line_that_lacks_only_its_end_gets_it(tmp_path: Path) -> None:
    trail = begin(tmp_path, clock=WallClock())
    trail.write(make_event(1))
    trail.close()
    file = tmp_path / NAME / "2026-01-01.jsonl"
    file.write_bytes(file.read_bytes()[:-1])
    trail = begin(tmp_path, clock=WallClock())
    trail.write(make_event(2))
    trail.close()

    assert [line["event"] for line in read_day(tmp_path, "2026-01-01")] == ["accepted"] * 2
    assert check(tmp_path, look(tmp_path)).is_sound


def test_a_file_that_was_made_and_not_written_to(tmp_path: Path) -> None:
    trail = begin(tmp_path, clock=WallClock())
    trail.write(make_event(1))
    trail.close()
    trail = begin(tmp_path, clock=WallClock(START + DAY))
    trail.close()
    (tmp_path / NAME / "2026-01-02.jsonl").touch()
    trail = begin(tmp_path, clock=WallClock(START + 2 * DAY))
    trail.flush()
    trail.write(make_event(2))
    trail.close()

    assert [line["n"] for line in read_day(tmp_path, "2026-01-03")] == [3]
    assert check(tmp_path, look(tmp_path)).is_sound


_WRITER = """
import sys, time
from pathlib import Path
from tests.kit.trail import begin, make_event
trail = begin(Path(sys.argv[1]), sys.argv[2])
number = 0
while True:
    for _ in range(50):
        number += 1
        trail.write(make_event(number))
    trail.flush()
    if number == 50:
        print("writing", flush=True)
    time.sleep(0.02)
"""


def start_writer(base: Path, name: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(base), name],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"
    return process


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.slow
def test_killed_processes_leave_a_sound_trail(tmp_path: Path) -> None:
    for _ in range(3):
        process = start_writer(tmp_path, NAME)
        time.sleep(0.05)  # it is killed wherever it is
        kill(process)
    trail = begin(tmp_path)
    trail.write(make_event(1))
    trail.close()

    report = check(tmp_path, look(tmp_path))
    assert report.is_sound, report.findings
    assert report.lines >= 150


@pytest.mark.slow
def test_verifying_while_two_processes_write(tmp_path: Path) -> None:
    writers = [start_writer(tmp_path, name) for name in ("gw.worker.1", "gw.worker.2")]
    try:
        lines = []
        for _ in range(5):
            report = check(tmp_path, look(tmp_path))
            assert report.is_sound, report.findings
            lines.append(report.lines)
    finally:
        for writer in writers:
            kill(writer)
    assert lines[0] < lines[-1]
    assert report.chains == 2


# -- the disk


def test_a_full_disk_is_trouble_until_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trail = begin(tmp_path, clock=WallClock())
    log = EventLog(str(tmp_path / "events"), trail)
    log.write(make_event(1))
    log.flush()
    assert log.trouble == ""
    write = os.write
    room = 40

    def fill(file: int, data: bytes) -> int:
        nonlocal room
        if file != trail._files._file:
            return write(file, data)
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        took = write(file, data[:room])
        room -= took
        return took

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fill)
        for number in (2, 3):
            log.write(make_event(number))
            log.flush()
        assert "No space left on device" in log.trouble
    log.write(make_event(4))
    log.flush()
    assert log.trouble == ""
    log.close()

    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    said = read_day(tmp_path, "2026-01-01")
    assert [line["n"] for line in said] == [1, 2, 3, 4, 5]
    assert (said[-1]["event"], said[-1]["lines"]) == ("missed", 0)
    assert check(tmp_path, look(tmp_path)).is_sound


def test_what_does_not_fit_into_memory_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LIMIT", 1000)
    trail = begin(tmp_path, clock=WallClock())
    trail._files._path = tmp_path / "away"
    for number in range(100):
        trail.write(make_event(number))
        trail.flush()
    assert "No such file" in trail.trouble
    held = trail._n
    trail._files._path = trail._path
    trail.flush()
    trail.close()

    said = read_day(tmp_path, "2026-01-01")
    assert held < 10
    assert (said[-1]["event"], said[-1]["lines"]) == ("missed", 100 - held)
    assert check(tmp_path, look(tmp_path)).is_sound


def test_the_day_ends_while_the_disk_is_full(tmp_path: Path) -> None:
    clock = WallClock()
    trail = begin(tmp_path, clock=clock)
    trail._files._path = tmp_path / "away"
    trail.write(make_event(1))
    trail.flush()
    clock.now += DAY
    trail.write(make_event(2))
    trail.flush()
    trail.write(make_event(3))
    trail.flush()
    trail._files._path = trail._path
    trail.flush()
    trail.close()

    assert [line["n"] for line in read_day(tmp_path, "2026-01-01")] == [1, 2, 3]
    assert [line["n"] for line in read_day(tmp_path, "2026-01-02")] == [4, 5]
    assert check(tmp_path, look(tmp_path)).is_sound


def test_a_sync_that_fails_is_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trail = begin(tmp_path, clock=WallClock())
    trail.write(make_event(1))
    trail.flush()

    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        trail.sync()
        trail.flush()
        assert "cannot be synced" in trail.trouble
        assert trail.beacon._head.n == 0  # the store hears only of what is on the disk
    trail.sync()
    assert trail.trouble == ""
    trail.close()
    said = read_day(tmp_path, "2026-01-01")
    assert [line["event"] for line in said] == ["accepted", "missed"]
    assert "cannot be synced" in str(said[1]["text"])


def test_a_file_that_was_taken_away_is_made_anew(tmp_path: Path) -> None:
    trail = begin(tmp_path, clock=WallClock())
    trail.write(make_event(1))
    trail.flush()
    trail.sync()
    (tmp_path / NAME / "2026-01-01.jsonl").unlink()
    trail.sync()
    trail.write(make_event(2))
    trail.close()

    assert [line["n"] for line in read_day(tmp_path, "2026-01-01")] == [2]
    assert say(check(tmp_path)) == [
        "the chain begins with line 2, and no purge was recorded: its beginning is missing"
    ]


# -- who writes which


def make_config(base: Path, **audit: object) -> Config:
    return read({"audit": {"directory": "audit", **audit}}, base=base, environment={})


def test_without_a_directory_there_is_no_trail(tmp_path: Path) -> None:
    assert open_trail(read({}, base=tmp_path, environment={}), "worker") is None


def test_each_process_has_a_chain_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTGATE_SLOT", "3")
    config = make_config(tmp_path)
    one, two = open_trail(config, "worker"), open_trail(config, "worker")
    assert one is not None
    assert two is not None
    assert one.name.endswith(".worker.3")
    assert two.name.endswith(".worker.4")
    one.close()
    three = open_trail(config, "worker")
    assert three is not None
    assert three.name == one.name
    three.close()
    two.close()


def test_who_forgets_to_close_gives_the_chain_up(tmp_path: Path) -> None:
    path = tmp_path / NAME
    trail = begin(tmp_path)
    assert try_hold(path) is None
    del trail
    held = try_hold(path)
    assert held is not None
    held.release()


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("a file")
    with pytest.raises(StartError, match="cannot write the audit trail in"):
        open_trail(make_config(tmp_path), "worker")


def test_a_key_that_can_be_guessed(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"short\n")
    with pytest.raises(Exception, match="at least 32 octets") as raised:
        open_trail(make_config(tmp_path, key_file="key"), "worker")
    assert "short" not in str(raised.value)


def test_only_its_owner_writes_the_files(tmp_path: Path) -> None:
    held = hold_chain(tmp_path / "audit", "worker")
    trail = Trail(held, key=KEY)
    trail.write(make_event(1))
    trail.flush()
    for path in (held.path, *held.path.iterdir()):
        assert path.stat().st_mode & 0o027 == 0
    trail.close()
