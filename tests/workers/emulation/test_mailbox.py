"""A corpus from files."""

from pathlib import Path

import pytest

from relay.errors import StartError
from workers.emulation.mailbox import find_fault, normalise, open_files


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "deeper").mkdir()
    for name, content in {
        "a.eml": b"A: 1\n\nlf\n",
        "deeper/b.eml": "B: 2\r\n\r\nGrüße".encode(),
        "cr.eml": b"C: 3\r\rx\r",
        "nul.eml": b"D: 4\r\n\r\n\0\r\n",
        "note.txt": b"not mail",
    }.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_files_are_found_and_the_unusable_counted(directory: Path) -> None:
    corpus, left_out = open_files([str(directory)], seed=1, count=None)

    assert [path.name for path in corpus.paths] == ["a.eml", "b.eml"]
    assert left_out == {"has a bare CR": 1, "has a NUL": 1}
    assert corpus.make(0).content == b"A: 1\r\n\r\nlf\r\n"
    assert corpus.make(1).content == "B: 2\r\n\r\nGrüße\r\n".encode()


def test_eight_bit_content_is_declared(directory: Path) -> None:
    corpus, _ = open_files([str(directory)], seed=1, count=None)

    assert [corpus.envelope(number).body for number in (0, 1)] == [b"", b"8BITMIME"]


def test_more_messages_than_files_begin_again(directory: Path) -> None:
    corpus, _ = open_files([str(directory / "a.eml")], seed=1, count=3)

    assert len(corpus) == 3
    assert len({corpus.make(number).content for number in range(3)}) == 1
    assert len({corpus.make(number).envelope.sender for number in range(3)}) == 3


def test_nothing_to_send_is_said(directory: Path) -> None:
    with pytest.raises(StartError, match="1 x has a NUL"):
        open_files([str(directory / "nul.eml")], seed=1, count=None)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="No such file"):
        open_files([str(tmp_path / "missing.eml")], seed=1, count=None)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "empty"),
        (b"\r\n", "empty"),
        (b" folded: from where?\r\n", "begins with a blank"),
        (b"A: b\r\n\r\nfine\r\n", ""),
    ],
)
def test_faults_have_names(content: bytes, fault: str) -> None:
    assert find_fault(content) == fault


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        (b"a\nb", b"a\r\nb\r\n"),
        (b"a\r\nb\r\n", b"a\r\nb\r\n"),
        (b"a\r\n\n", b"a\r\n\r\n"),
        (b"a\rb\r\n", b"a\rb\r\n"),
    ],
)
def test_line_ends_become_crlf(raw: bytes, normal: bytes) -> None:
    assert normalise(raw) == normal
