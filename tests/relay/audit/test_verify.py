"""Verifying: whatever is done to a trail is found, and what nobody has done is not."""

import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.audit.findings import Known
from relay.audit.line import Head
from relay.audit.verify import verify
from tests.kit.trail import DAY, KEY, START, check, look, say, write_days

NAME = "gw.worker.1"
DAYS = ("2026-01-01", "2026-01-02", "2026-01-03")


@cache
def make_original() -> tuple[Path, Known]:
    base = Path(tempfile.mkdtemp(prefix="og-trail-"))
    write_days(base, (4, 3, 5))
    write_days(base, (2, 2), "gw.ingress.1")
    return base, look(base)


@pytest.fixture(scope="module", autouse=True)
def cleared() -> Iterator[None]:
    yield
    shutil.rmtree(make_original()[0])


class Copy:
    """A trail that harm is done to."""

    def __init__(self) -> None:
        self._original, self.known = make_original()
        self._directory = tempfile.TemporaryDirectory(prefix="og-trail-")
        self.base = Path(self._directory.name) / "audit"
        shutil.copytree(self._original, self.base)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._directory.cleanup()

    def find_file(self, day: str) -> Path:
        return self.base / NAME / f"{day}.jsonl"

    def verify(self, *, store: bool = True) -> list[str]:
        return say(check(self.base, self.known if store else None, now=START + 2 * DAY + 9))


@pytest.fixture
def copy() -> Iterator[Copy]:
    with Copy() as copy:
        yield copy


def test_what_nobody_has_touched_is_sound(copy: Copy) -> None:
    report = check(copy.base, copy.known, now=START + 2 * DAY + 9)
    assert report.is_sound
    assert (report.chains, report.days, report.lines) == (2, 5, 19)
    assert report.notes == [
        (
            "gw.ingress.1: 2026-01-02 is not sealed yet; if its process does not come back: "
            "`outgate audit seal`"
        )
    ]


day = st.sampled_from(DAYS)


@settings(max_examples=150, deadline=None)
@given(day, st.integers(0, 1 << 20), st.integers(1, 255))
def test_any_octet_that_is_another(day: str, place: int, change: int) -> None:
    with Copy() as copy:
        file = copy.find_file(day)
        octets = bytearray(file.read_bytes())
        octets[place % len(octets)] ^= change
        file.write_bytes(octets)
        assert copy.verify()


@settings(max_examples=100, deadline=None)
@given(day, st.integers(0, 9), st.integers(0, 9), st.sampled_from(["delete", "double", "swap"]))
def test_any_line_that_is_gone_or_doubled_or_elsewhere(
    day: str, one: int, two: int, harm: str
) -> None:
    with Copy() as copy:
        file = copy.find_file(day)
        lines = file.read_bytes().splitlines(keepends=True)
        one, two = one % len(lines), two % len(lines)
        if harm == "delete":
            del lines[one]
        elif harm == "double":
            lines.insert(two, lines[one])
        elif one == two:
            return
        else:
            lines[one], lines[two] = lines[two], lines[one]
        file.write_bytes(b"".join(lines))
        assert copy.verify()


@settings(max_examples=60, deadline=None)
@given(day, st.integers(0, 1 << 20))
def test_any_end_that_is_cut_off(day: str, length: int) -> None:
    with Copy() as copy:
        file = copy.find_file(day)
        octets = file.read_bytes()
        file.write_bytes(octets[: length % len(octets)])
        assert copy.verify()


@pytest.mark.parametrize("day", DAYS)
def test_a_file_that_is_missing(copy: Copy, day: str) -> None:
    copy.find_file(day).unlink()
    assert copy.verify()


def test_what_is_missing_is_named(copy: Copy) -> None:
    copy.find_file(DAYS[1]).unlink()
    (finding, *_) = check(copy.base, copy.known).findings
    assert (finding.chain, finding.line) == (NAME, 1)
    assert finding.file.endswith("2026-01-03.jsonl")
    assert finding.text == "lines 6 to 9 are missing before this one, 10"


def test_a_chain_that_is_missing(copy: Copy) -> None:
    shutil.rmtree(copy.base / NAME)
    assert copy.verify() == ["the chain is missing; the store knows 14 lines of it"]


def test_a_changed_line_is_one_finding_and_the_seal_is_not_another(copy: Copy) -> None:
    file = copy.find_file(DAYS[0])
    file.write_bytes(file.read_bytes().replace(b"M00002", b"M99992"))
    assert copy.verify() == [
        "line 3 does not follow from the line before it: one of them was changed"
    ]


def test_without_the_store_a_cut_end_is_not_found(copy: Copy) -> None:
    file = copy.find_file(DAYS[2])
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:-1]))
    assert copy.verify(store=False) == []
    assert copy.verify() == ["ends with line 13; the store knows of line 14: its end is cut off"]


def test_what_the_store_knew_once_is_not_forgotten(copy: Copy) -> None:
    known = Known(copy.known.heads, copy.known.seals, [(NAME, Head(99, b"f" * 64))])
    assert say(check(copy.base, known)) == [
        (
            "line 99 was there once; the end of the chain was cut off or changed, and the chain "
            "went on without it"
        )
    ]


def rewrite(base: Path, key: bytes) -> None:
    """Do as one who has the files, and not the key: write a whole past of his own."""
    shutil.rmtree(base)
    write_days(base, (4, 3, 5), key=key)
    write_days(base, (2, 2), "gw.ingress.1", key=key)


def test_a_past_that_was_written_anew_is_signed_by_somebody_else(copy: Copy) -> None:
    rewrite(copy.base, b"x" * 32)
    assert set(copy.verify(store=False)) == {
        "the seal's signature is wrong: it was made with another key, or changed"
    }


def test_a_past_that_was_written_anew_without_signing(copy: Copy) -> None:
    rewrite(copy.base, b"")
    assert set(copy.verify(store=False)) == {
        "the seal is not signed, and there is nobody else who vouches for it"
    }
    assert copy.verify()


def test_seals_of_before_there_was_a_key_are_vouched_for_by_the_store(tmp_path: Path) -> None:
    write_days(tmp_path, (2, 2), key=b"")
    assert check(tmp_path, look(tmp_path)).is_sound
    assert not check(tmp_path).is_sound
    assert verify(tmp_path).is_sound


def test_a_seal_that_the_store_does_not_know(copy: Copy) -> None:
    seals = {NAME: {DAYS[0]: Head(5, b"f" * 64)}}
    assert say(check(copy.base, Known(seals=seals))) == [
        "the seal was changed: the store knows another"
    ]


def test_a_seal_that_the_store_knows_and_the_files_have_not(copy: Copy) -> None:
    seals = {NAME: {"2025-12-31": Head(1, b"f" * 64)}}
    assert say(check(copy.base, Known(seals=seals))) == [
        "the store knows of a seal of 2025-12-31, line 1, that is not there"
    ]


def test_an_old_key_still_verifies(tmp_path: Path) -> None:
    write_days(tmp_path, (2, 2), key=b"o" * 32)
    assert verify(tmp_path, keys=[KEY, b"o" * 32]).is_sound


def test_findings_are_bounded(copy: Copy) -> None:
    copy.find_file(DAYS[2]).write_bytes(b"x\n" * 5000)
    report = check(copy.base, copy.known)
    assert len(report.findings) == 1000
    assert report.more > 3900


def test_progress_is_told(tmp_path: Path) -> None:
    write_days(tmp_path, (100_000,))
    heard: list[int] = []
    verify(tmp_path, tell=heard.append)
    assert heard == [100_000]


@pytest.mark.parametrize("more", [b'"lines":99,', b'"event":"seal",', b'"note":"approved",'])
def test_a_seal_with_more_in_it_than_was_signed(tmp_path: Path, more: bytes) -> None:
    write_days(tmp_path, (4, 0))
    (file,) = tmp_path.glob("*/*.jsonl")
    first, mark, seal = file.read_bytes().rpartition(b'"event":"seal",')
    file.write_bytes(first + mark + more + seal)

    assert say(check(tmp_path)) == ["the seal cannot be read"]
