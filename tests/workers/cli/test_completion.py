"""``outgate completion``, in real shells where they are."""

import shutil
import subprocess
from pathlib import Path

import pytest

from workers.cli.main import _COMMANDS, main

_BASH = """
source %s
complete_it() {
  COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}; COMPREPLY=()
  local name=$(complete -p outgate | sed 's/.*-F \\([^ ]*\\).*/\\1/')
  $name outgate "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
  printf '%%s\\n' "${COMPREPLY[@]}"
}
complete_it %s
"""


def make_script(shell: str, directory: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["completion", shell]) == 0
    script = directory / "outgate"
    script.write_text(capsys.readouterr().out)
    return script


def ask_bash(script: Path, *words: str) -> set[str]:
    quoted = " ".join(f"'{word}'" for word in words)
    done = subprocess.run(
        ["bash", "--norc", "-c", _BASH % (script, quoted)],
        cwd=script.parent, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return {line.strip() for line in done.stdout.splitlines()}


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_bash_completes_commands_options_words_and_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = make_script("bash", tmp_path, capsys)
    (tmp_path / "corpus.mbox").touch()

    assert set(_COMMANDS) <= ask_bash(script, "outgate", "")
    assert ask_bash(script, "outgate", "re") == {"replay", "resume", "retry"}
    assert {"--to", "--tls", "--rate", "--config"} <= ask_bash(script, "outgate", "replay", "--")
    assert ask_bash(script, "outgate", "replay", "--tls", "") == {
        "none", "opportunistic", "require", "verify",
    }  # fmt: skip
    assert "corpus.mbox" in ask_bash(script, "outgate", "replay", "--report", "cor")
    assert "corpus.mbox" in ask_bash(script, "outgate", "replay", "cor")


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_can_read_theirs(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = make_script(shell, tmp_path, capsys)
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")

    subprocess.run([shell, "-n", str(script)], check=True, timeout=60)


def test_every_command_and_its_options_are_in_all_of_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert main(["completion", shell]) == 0
        said = capsys.readouterr().out
        assert not [name for name in _COMMANDS if name not in said]
        assert "as-recorded" in said
        assert "SUPPRESS" not in said
