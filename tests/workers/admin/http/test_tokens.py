"""Tokens: read from a file, valid one and all, and again when the file changes."""

from pathlib import Path

import pytest

from relay.errors import StartError
from workers.admin.http.tokens import Tokens

ONE, TWO = "1" * 32, "2" * 32


def test_each_line_is_valid(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"{ONE}\n\n  {TWO}  \n")
    tokens = Tokens(str(file))
    assert tokens.needed
    assert tokens.find(ONE) != tokens.find(TWO) != ""
    # printf %032d 0 | tr 0 1 | sha256sum
    assert len(tokens.find(ONE)) == 8
    for wrong in ("", "\n", ONE[:-1], ONE + TWO, "\udcff", "é" * 32):
        assert tokens.find(wrong) == ""


def test_without_a_file_none_is_needed_and_none_is_valid() -> None:
    tokens = Tokens("")
    assert not tokens.needed
    assert tokens.find("") == ""
    tokens.refresh()


@pytest.mark.parametrize(
    ("content", "said"), [("", "it is empty"), ("short\n", "16 characters"), (None, "No such file")]
)
def test_a_file_that_holds_none_is_no_beginning(
    tmp_path: Path, content: str | None, said: str
) -> None:
    file = tmp_path / "tokens"
    if content is not None:
        file.write_text(content)
    with pytest.raises(StartError, match=said):
        Tokens(str(file))


def test_tokens_change_without_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(ONE)
    tokens = Tokens(str(file))
    file.write_text(TWO)
    tokens.refresh()
    assert (tokens.find(ONE), bool(tokens.find(TWO))) == ("", True)


def test_a_file_that_breaks_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "tokens"
    file.write_text(ONE)
    tokens = Tokens(str(file))
    file.write_text("")
    tokens.refresh()
    file.unlink()
    tokens.refresh()
    assert tokens.find(ONE)
    assert "stay valid" in caplog.text
    assert ONE not in caplog.text
