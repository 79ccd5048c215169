"""``outgate simulate``, as an operator calls it: a store of its own, a report, and its ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.kit.redis import Server
from workers.cli.main import main

_MIX = """
about = "an hour"
lasts = "1h"
[[provider]]
name = "p"
rate = "60/m burst 20"
[[demand]]
provider = "p"
daily = 20000
"""


@pytest.fixture
def mix(tmp_path: Path) -> str:
    path = tmp_path / "mix.toml"
    path.write_text(_MIX)
    return str(path)


@pytest.mark.slow
def test_it_compares_and_writes_a_report(
    mix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.html"

    status = main(["simulate", "-c", mix, "--json", "--out", str(out)])

    assert status == 0
    report = json.loads(capsys.readouterr().out)
    assert report["mix"] == mix
    assert report["days"] == pytest.approx(1 / 24)
    assert [run["policy"] for run in report["runs"]] == ["loop", "fixed", "oracle"]
    for run in report["runs"]:
        (site,) = run["sites"]
        assert site["born"] == site["delivered"] + site["refused"] + site["waiting"]
        assert site["lost"] == 0
    assert len({run["sites"][0]["born"] for run in report["runs"]}) == 1
    assert "<img alt='p'" in out.read_text()


@pytest.mark.slow
def test_a_store_can_be_named_and_must_be_empty(
    mix: str, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["simulate", "-c", mix, "--policy", "loop", "--days", "0.01"]

    assert main([*arguments, "--store", server.url]) == 0
    assert "p" in capsys.readouterr().out
    with server.client() as client:
        client.set("mine", "1")
    assert main([*arguments, "--store", server.url]) == 1
    assert "not empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--days", "0"], "--days"),
        (["--mix", "strict", "-c", "x.toml"], "not both"),
        (["-c", "/nonexistent.toml"], "cannot be read"),
    ],
)
def test_what_is_wrong_is_said(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", *arguments]) == 2
    assert problem in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_ends_it(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "workers.cli", "simulate", "--policy", "loop", "--mix", "month"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    try:
        deadline = time.monotonic() + 20
        while not list(tmp_path.glob("*/store/connection.json")) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, said
    assert b"Traceback" not in said
    assert list(tmp_path.iterdir()) == []
