"""Taking away what is old: exactly that beginning is accepted afterwards, and nothing else."""

from pathlib import Path

import msgspec
import pytest

from relay.audit.chain import list_days
from relay.audit.purge import Old, carry_over, find_old
from relay.audit.purged import find_purged
from relay.audit.trail import Trail
from relay.events import encode_event
from tests.kit.trail import DAY, START, WallClock, begin, check, make_event, say, write_days

NAME = "gw.worker.1"
LATER = START + 10 * DAY


def record(base: Path, old: list[Old], clock: WallClock) -> None:
    """Write the records, as the command does."""
    trail = begin(base, "gw.operator.1", clock=clock)
    trail.flush()
    for one in [o.make_record() for o in old] + carry_over(base, find_purged(base), old):
        event = {"event": "purged", "time": clock.now, "purged": msgspec.to_builtins(one)}
        trail.write(encode_event(event))
    trail.close()


def purge(base: Path, before: float, clock: WallClock | None = None) -> list[Old]:
    old = list(find_old(base, before))
    record(base, old, clock or WallClock(LATER))
    for one in old:
        one.remove()
        one.release()
    return old


def hold(base: Path, name: str = NAME) -> Trail:
    """Be the process that is alive."""
    return begin(base, name, clock=WallClock(START + 2 * DAY))


def test_old_days_go_and_the_rest_is_sound(tmp_path: Path) -> None:
    write_days(tmp_path, (3, 2, 2))
    (old,) = purge(tmp_path, START + 2 * DAY)
    assert old.days == ["2026-01-01", "2026-01-02"]
    assert list_days(tmp_path / NAME) == ["2026-01-03"]
    assert check(tmp_path).is_sound


def test_the_day_that_is_not_over_stays(tmp_path: Path) -> None:
    write_days(tmp_path, (3,))
    assert purge(tmp_path, LATER) == []


def test_what_is_not_old_enough_stays(tmp_path: Path) -> None:
    write_days(tmp_path, (3, 2, 2))
    assert purge(tmp_path, START + DAY - 1) == []


def test_more_that_goes_is_found(tmp_path: Path) -> None:
    write_days(tmp_path, (3, 2, 2))
    purge(tmp_path, START + DAY)
    (tmp_path / NAME / "2026-01-02.jsonl").unlink()
    assert say(check(tmp_path)) == [
        "the chain begins with line 8; the last purge ended with line 4: lines 5 to 7 are missing"
    ]


def test_a_beginning_that_was_changed_is_found(tmp_path: Path) -> None:
    write_days(tmp_path, (3, 2, 2))
    purge(tmp_path, START + DAY)
    file = tmp_path / NAME / "2026-01-02.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    lines[0] = lines[0].replace(b'"prev":"', b'"prev":"0')[:-2] + b"\n"
    file.write_bytes(b"".join(lines))
    assert not check(tmp_path).is_sound


def test_a_purge_that_died_half_way_is_no_finding(tmp_path: Path) -> None:
    write_days(tmp_path, (3, 2, 2))
    old = list(find_old(tmp_path, START + 2 * DAY))
    record(tmp_path, old, WallClock(LATER))
    (tmp_path / NAME / "2026-01-01.jsonl").unlink()
    report = check(tmp_path, now=START + 2 * DAY)
    assert report.is_sound, report.findings
    assert report.notes == [f"{NAME}: a purge was not finished: `outgate audit purge` again"]

    purge(tmp_path, START + 2 * DAY, WallClock(LATER + 1))
    assert check(tmp_path, now=START + 2 * DAY).notes == []


def seal_all(base: Path, name: str = NAME) -> None:
    trail = begin(base, name, clock=WallClock(START + 3 * DAY))
    trail.flush()
    trail.close()


def test_the_last_file_of_a_process_that_is_alive_stays(tmp_path: Path) -> None:
    write_days(tmp_path, (3, 2))
    seal_all(tmp_path)
    alive = begin(tmp_path, clock=WallClock(LATER))
    (old,) = purge(tmp_path, LATER)
    assert old.days == ["2026-01-01"]
    alive.write(make_event(1))
    alive.close()
    assert check(tmp_path).is_sound


def test_a_chain_that_nobody_goes_on_with_goes_as_a_whole(tmp_path: Path) -> None:
    write_days(tmp_path, (3, 2))
    seal_all(tmp_path)
    (old,) = purge(tmp_path, LATER)
    assert old.days == ["2026-01-01", "2026-01-02"]
    assert not (tmp_path / NAME).exists()
    assert check(tmp_path).is_sound
    # Who takes its name begins anew.
    write_days(tmp_path, (1,))
    assert check(tmp_path).is_sound
    assert find_purged(tmp_path)[NAME].whole


def test_a_purge_of_what_began_anew(tmp_path: Path) -> None:
    write_days(tmp_path, (9, 9))
    seal_all(tmp_path)
    purge(tmp_path, LATER)
    write_days(tmp_path, (1, 1))
    purge(tmp_path, START + DAY, WallClock(LATER + DAY))
    assert list_days(tmp_path / NAME) == ["2026-01-02"]
    assert check(tmp_path).is_sound


def test_records_outlive_the_days_that_they_stand_in(tmp_path: Path) -> None:
    write_days(tmp_path, (3, 2))
    clock = WallClock(LATER)
    purge(tmp_path, START + DAY, clock)
    clock.now += 5 * DAY
    trail = begin(tmp_path, "gw.operator.1", clock=clock)
    trail.flush()
    trail.write(make_event(1))
    trail.flush()
    old = list(find_old(tmp_path, LATER + DAY))
    assert [one.name for one in old] == ["gw.operator.1"]
    trail.close()
    record(tmp_path, old, clock)
    for one in old:
        one.remove()

    assert list_days(tmp_path / "gw.operator.1") == ["2026-01-16"]
    report = check(tmp_path)
    assert report.is_sound, report.findings
    assert find_purged(tmp_path).keys() == {NAME, "gw.operator.1"}


def test_events_of_others_that_are_called_purged(tmp_path: Path) -> None:
    trail = begin(tmp_path, "gw.operator.1")
    trail.write(encode_event({"event": "purged", "messages": 7, "why": '"event":"purged"'}))
    trail.write(b'{"x":"\\"event\\":\\"purged\\""}')
    trail.close()
    assert find_purged(tmp_path) == {}


@pytest.mark.parametrize("harm", ["chain", "last", "hash"])
def test_a_record_that_is_about_something_else(tmp_path: Path, harm: str) -> None:
    write_days(tmp_path, (3, 2, 2))
    (old,) = find_old(tmp_path, START + DAY)
    good = msgspec.to_builtins(old.make_record())
    bad = {"chain": "gw.worker.2", "last": 3, "hash": "f" * 64}[harm]
    trail = begin(tmp_path, "gw.operator.1", clock=WallClock(LATER))
    event = {"event": "purged", "time": LATER, "purged": good | {harm: bad}}
    trail.write(encode_event(event))
    trail.close()
    old.remove()
    assert not check(tmp_path).is_sound
