"""What is found in files: mailboxes, Maildirs, archives; and what is too large, or no mail."""

import gzip
import io
import os
import tarfile
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import StartError
from workers.replay.files import Reading
from workers.replay.letter import Letter
from workers.replay.mbox import split
from workers.replay.packed import read_entries

zstd = pytest.importorskip("backports.zstd", reason="backports.zstd is not installed")

ONE = b"Subject: one\r\nTo: a@b.example\r\n\r\n8-bit \xe9, a bare \r and \0\r\n"
TWO = b"Subject: two\nTo: c@d.example\n\nhello\n"
FROM = b"From ann@x.example Mon Jan  5 08:00:00 2026\n"


def read(*paths: Path, **options: object) -> list[Letter]:
    return list(Reading(paths, **options).read())  # type: ignore[arg-type]


def make_tar(files: Iterable[tuple[str, bytes]], **options: object) -> bytes:
    octets = io.BytesIO()
    with tarfile.open(fileobj=octets, mode="w", **options) as archive:  # type: ignore[call-overload]
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), 1_700_000_000
            archive.addfile(entry, io.BytesIO(content))
    return octets.getvalue()


def test_a_directory_is_read_in_order_and_octet_by_octet(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b/2.eml").write_bytes(TWO)
    (tmp_path / "a.eml").write_bytes(ONE)
    (tmp_path / "notes.txt").write_bytes(b"no mail")

    letters = read(tmp_path)

    assert [letter.content for letter in letters] == [ONE, TWO]
    assert letters[-1].position == len(ONE) + len(TWO)


def test_what_is_named_is_taken_whatever_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(TWO)

    assert [letter.content for letter in read(tmp_path / "x")] == [TWO]


def test_a_maildir_has_its_messages_in_cur_and_new(tmp_path: Path) -> None:
    for folder, name in (("cur", "1700000001.a:2,S"), ("new", "1700000002.b"), ("tmp", "3")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(TWO)

    letters = read(tmp_path)

    assert [letter.stamp for letter in letters] == [1_700_000_001, 1_700_000_002]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd.compress])
def test_an_archive_is_read_whatever_compresses_it(tmp_path: Path, pack) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    long = "folder/" * 30 + "x.eml"
    files = [("a.eml", ONE), ("readme", b"no"), (long, TWO), ("box.mbox", FROM + TWO + b"\n")]
    for format_ in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        (tmp_path / "corpus").write_bytes(pack(make_tar(files, format=format_)))
        reading = Reading([tmp_path / "corpus"])

        letters = list(reading.read())

        assert [letter.content for letter in letters] == [ONE, TWO, TWO]
        assert letters[1].name.endswith(f":{long}")
        assert (letters[0].stamp, letters[0].changed) == (0, 1_700_000_000)
        assert reading.left.reasons == {"no mail, by its name": 1}


def test_a_torn_archive_gives_what_is_whole_and_says_so(tmp_path: Path) -> None:
    whole = gzip.compress(make_tar([("a.eml", ONE), ("b.eml", os.urandom(100_000))]))
    (tmp_path / "c.tgz").write_bytes(whole[:50_000])
    reading = Reading([tmp_path])

    assert [letter.content for letter in reading.read()] == [ONE]
    assert len(reading.left.damaged) == 1


def test_a_name_without_end_is_not_held_in_memory(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("x")
    entry.size, entry.type = 1 << 30, tarfile.GNUTYPE_LONGNAME
    (tmp_path / "c.tar").write_bytes(entry.tobuf(tarfile.GNU_FORMAT) + bytes(10_000))
    reading = Reading([tmp_path / "c.tar"])

    assert list(reading.read()) == []
    assert "longer than anybody" in reading.left.damaged[0]


def test_a_bomb_ends_its_file_and_not_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.replay.packed._FREE", 1 << 20)
    (tmp_path / "a.tar.zst").write_bytes(zstd.compress(bytes(512) + bytes(1 << 26)))
    (tmp_path / "a.eml.zst").write_bytes(zstd.compress(bytes(1 << 26)))
    (tmp_path / "b.eml").write_bytes(TWO)
    reading = Reading([tmp_path], most=1 << 28)

    assert [letter.content for letter in reading.read()] == [TWO]
    assert any("bomb" in text for text in reading.left.damaged)


def test_what_is_too_large_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.eml").write_bytes(b"x" * 101)
    (tmp_path / "b.mbox").write_bytes(FROM + b"y" * 101 + b"\n\n" + FROM + b"z" * 90 + b"\n")
    reading = Reading([tmp_path], most=100)

    assert [letter.content for letter in reading.read()] == [b"z" * 90 + b"\n"]
    assert reading.left.reasons == {"larger than 100 octets": 2}


def test_a_path_that_is_not_there_ends_it(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="cannot be read"):
        read(tmp_path / "nothing")


# -- mbox


def test_a_mailbox_is_cut_where_messages_begin(tmp_path: Path) -> None:
    box = FROM + b"Subject: a\n\nFrom here on\n>From the start\n>>From it\n\n" + FROM + ONE
    (tmp_path / "box").write_bytes(box)

    letters = read(tmp_path / "box")

    assert letters[0].content == b"Subject: a\n\nFrom here on\nFrom the start\n>From it\n"
    assert letters[1].content == ONE
    assert letters[1].name.endswith("box#2")
    assert letters[0].stamp == 1_767_600_000
    plain = read(tmp_path / "box", quoting="mboxo")[0].content
    assert plain.endswith(b"From the start\n>>From it\n")
    assert b">From the start" in read(tmp_path / "box", quoting="none")[0].content


_LINES = st.lists(
    st.sampled_from(
        [b"", b"From ", b">From x", b">>From y", b"text", b"From a b 10:00 2026", b"\r"]
    ),
    max_size=12,
)


@settings(deadline=None)
@given(st.lists(_LINES, min_size=1, max_size=5))
def test_what_was_written_as_mboxrd_is_read_again(messages: list[list[bytes]]) -> None:
    contents = [b"".join(line + b"\n" for line in lines) for lines in messages]
    box = b""
    for content in contents:
        lines = content.splitlines(keepends=True) if b"\r" not in content else content.split(b"\n")
        if b"\r" in content:
            lines = [line + b"\n" for line in lines[:-1]]
        quoted = [b">" + line if line.lstrip(b">").startswith(b"From ") else line for line in lines]
        box += FROM + b"".join(quoted) + b"\n"

    assert [found for found, _ in split(io.BytesIO(box), "mboxrd", 10_000)] == contents


@settings(deadline=None)
@given(st.binary(max_size=2000), st.integers(1, 100))
def test_no_octets_break_the_cutting(octets: bytes, most: int) -> None:
    found = [one for one, _ in split(io.BytesIO(FROM + octets), "mboxrd", most)]

    assert all(one is None or len(one) <= most for one in found)


@pytest.mark.parametrize(
    "line",
    [
        b"From " + b"1:11 " * 13_000,
        b"From " + b"1:11111" * 9_000 + b"\rx",
        (b"From " + b"1:11111" * 60 + b"\rx\n\n") * 200,
    ],
)
def test_a_line_that_is_nearly_a_separator_takes_no_time(line: bytes) -> None:
    began = time.thread_time()
    (found,) = split(io.BytesIO(FROM + b"\n" + line + b"\n"), "mboxrd", 1 << 20)
    assert time.thread_time() - began < 1
    assert found[0] is not None
    assert found[0].strip() == line.strip()


def test_a_file_of_a_time_that_no_file_can_have(tmp_path: Path) -> None:
    """Half of all numbers that the field can hold are such: whoever sets its time would fail."""
    entry = tarfile.TarInfo("a.eml")
    entry.size, entry.mtime = 1, 1 << 80
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(entry, io.BytesIO(b"x"))
    (found,) = read_entries(io.BufferedReader(io.BytesIO(archive.getvalue())))
    assert found.stamp == 0.0
    os.utime(tmp_path, (found.stamp, found.stamp))
