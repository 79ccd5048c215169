"""How state looks on a terminal, narrow and wide."""

import re

import pytest

from workers.cli.page import add_row, make_table, open_console

_NAME = "a-source-with-a-long-name.example"
_WORDS = "quarantined until tomorrow: 550 5.7.1 see http://x.example/y"


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_narrow_terminal_shows_all_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal
    monkeypatch.setenv("TERM", "xterm")
    table = make_table("source", "site", ">queued", ">rests", last="state")
    add_row(table, _NAME, _NAME, 1234567, 5, _WORDS)
    open_console().print(table)

    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()

    assert max(map(len, lines)) <= columns
    start = lines[0].index("state")
    assert "".join(line[start:].strip() for line in lines[1:]).replace(" ", "") == (
        _WORDS.replace(" ", "")
    )


def test_lines_of_a_cell_are_lines_and_those_of_a_stranger_are_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = make_table("source", last="state")
    add_row(table, "a\nb", ["good", "warm\nup [bold]\x1b"])
    open_console().print(table)

    _, first, second = capsys.readouterr().out.splitlines()

    assert first.split() == ["a?b", "good"]
    assert second.strip() == "warm?up [bold]?"
