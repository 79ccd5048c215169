"""What services say: a line of text, or an object a line, tracebacks included."""

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from workers.cli.journal import JsonLines

_ROOT = Path(__file__).parents[3]


def make(text: str, *arguments: object, slot: str = "", **more: Any) -> dict[str, Any]:
    record = logging.LogRecord(
        "outgate.worker", logging.WARNING, __file__, 1, text, arguments, more.get("exc_info")
    )
    line = JsonLines("worker", slot).format(record)
    assert "\n" not in line
    return json.loads(line)  # type: ignore[no-any-return]


def test_an_object_has_what_collectors_want() -> None:
    found = make("source %s: %s", "a", "gone", slot="2")

    assert found.pop("time") > 1e9
    assert found == {
        "level": "warning", "service": "worker", "slot": 2,
        "logger": "outgate.worker", "message": "source a: gone",
    }  # fmt: skip
    assert make("x")["slot"] is None


def test_a_traceback_is_part_of_the_line() -> None:
    try:
        raise ValueError("odd\nthing")
    except ValueError:
        found = make("failed", exc_info=sys.exc_info())

    assert found["exception"].startswith("Traceback")
    assert "ValueError: odd\nthing" in found["exception"]


@pytest.mark.parametrize("odd", ["\udce9", "a\nb", "\x00", '"'])
def test_whatever_a_stranger_sends_is_one_line_of_json(odd: str) -> None:
    assert make("said %s", odd)["message"].startswith("said ")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "workers.cli", *words],
        cwd=_ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("command", ["ingress", "worker"])
def test_what_ends_a_service_is_said_in_json(command: str, tmp_path: Path) -> None:
    file = tmp_path / "outgate.toml"
    file.write_text(
        'log.format = "json"\n'
        f'store.url = "unix://{tmp_path}/nobody"\n'
        '[[source]]\nname = "a"\naddress = "127.0.0.1"\n[pool.default]\na = 1\n'
        '[[tenant]]\nname = "acme"\ndomains = ["acme.example"]\n'
        "[ingress]\nlisten = [\"127.0.0.1:0\"]\n"
    )  # fmt: skip

    done = run(command, "-c", str(file))

    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert (lines[-1]["level"], lines[-1]["service"]) == ("error", command)
    assert "store" in lines[-1]["message"]


@pytest.mark.slow
def test_what_a_command_says_stays_text(tmp_path: Path) -> None:
    file = tmp_path / "outgate.toml"
    file.write_text(f'log.format = "json"\nstore.url = "unix://{tmp_path}/nobody"\n')

    done = run("status", "-c", str(file))

    assert done.returncode == 1
    assert done.stderr.startswith("outgate: the store does not answer")


@pytest.mark.slow
def test_a_fault_of_ours_is_a_line_too() -> None:
    script = (
        "from workers.cli.journal import start_journal\n"
        "import warnings\n"
        "start_journal('worker', as_json=True)\n"
        "warnings.warn('careful', stacklevel=1)\n"
        "raise RuntimeError('ours')\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], cwd=_ROOT, capture_output=True, text=True, check=False
    )

    warned, ended = [json.loads(line) for line in done.stderr.splitlines()]
    assert "careful" in warned["message"]
    assert ended["level"] == "critical"
    assert "RuntimeError: ours" in ended["exception"]
    assert done.returncode == 1
