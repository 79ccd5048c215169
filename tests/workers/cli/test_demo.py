"""`outgate demo` as a person runs it: a process, its output, and what it leaves behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
LETTER = b"Subject: hello\nFrom: a@acme.test\n\n.\n..dots\nGr\xc3\xbc\xc3\x9fe\n"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A temporary directory of its own, and a store that the demo must not touch."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    return {
        **os.environ,
        "TMPDIR": str(temporary),
        "OUTGATE_STORE_URL": "redis://127.0.0.1:1/0",
        "OUTGATE_CONFIG": "/nowhere/outgate.toml",
    }


def start(environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "workers.cli", "demo", *arguments],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=100)
    return process.returncode, out, err


def find_processes(directory: str) -> list[str]:
    """Return the command lines of processes that mention a directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if directory in line:
            found.append(line)
    return found


def test_the_books_close_and_nothing_is_left(environment: dict[str, str]) -> None:
    status, out, err = finish(start(environment, "--messages", "60", "--json"))

    assert status == 0, err
    document = json.loads(out)
    assert document["ok"]
    assert document["messages"] == 60
    ledger = document["ledger"]
    assert ledger["accepted"] == document["books"]["accepted"] > 60
    assert ledger["accepted"] == ledger["delivered"] + ledger["bounced"]
    assert document["books"]["bounced"] > 0
    assert all(source["messages"] for source in document["sources"])
    assert all(receiver["messages"] for receiver in document["receivers"].values())
    assert "The books close: nothing was lost." in err
    assert os.listdir(environment["TMPDIR"]) == []
    assert find_processes(environment["TMPDIR"]) == []


def test_files_go_through_and_the_directory_is_kept(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "mail").mkdir()
    (tmp_path / "mail" / "letter.eml").write_bytes(LETTER)
    (tmp_path / "mail" / "bad.eml").write_bytes(b"A: b\n\n\0\n")

    status, out, err = finish(
        start(environment, str(tmp_path / "mail"), "--keep", str(tmp_path / "kept"), "--json")
    )

    assert status == 0, err
    document = json.loads(out)
    assert document["messages"] == 1
    assert document["left_out"] == {"has a NUL": 1}
    assert document["kept"] == str(tmp_path / "kept")
    assert (tmp_path / "kept" / "state" / "events.jsonl").stat().st_size
    assert f"explain -c {tmp_path}/kept/outgate.toml" in err


def test_a_signal_leaves_nothing_behind(environment: dict[str, str]) -> None:
    process = start(environment, "--messages", "5000")
    assert process.stdout is not None
    for line in process.stdout:
        if " sending: " in line:
            break
    time.sleep(0.5)  # until mail is on its way

    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)  # the impatient: it must not cut the cleaning up short
    status, out, err = finish(process)

    assert status == 130, err
    assert "Stopped; nothing is left behind." in out
    assert os.listdir(environment["TMPDIR"]) == []
    assert find_processes(environment["TMPDIR"]) == []


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["-c", "outgate.toml"], 2, "leave -c out"),
        (["--messages", "0"], 2, "expected a number of messages"),
        (["--keep", "."], 1, "not empty"),
        (["missing.eml"], 1, "missing.eml: cannot be read: No such file"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(
    environment: dict[str, str], arguments: list[str], status: int, said: str
) -> None:
    found, _, err = finish(start(environment, *arguments))

    assert found == status
    assert said in err
    assert "Traceback" not in err


def test_it_can_be_watched(environment: dict[str, str]) -> None:
    """The dashboard is there while mail flows, and goes with the rest."""
    process = start(environment, "--watch", "--messages", "100000")
    try:
        assert process.stdout is not None
        url = ""
        for line in process.stdout:
            if "http://" in line:
                url = line.split()[2]
                break
        delivered, ends = 0, time.monotonic() + 60
        while not delivered and time.monotonic() < ends:
            time.sleep(0.2)  # it may not listen yet
            with contextlib.suppress(httpx2.TransportError):
                answer = httpx2.get(f"{url}api/v1/status")
                if answer.status_code == 200:
                    delivered = answer.json()["ledger"]["delivered"]
        assert delivered
        assert "<title>" in httpx2.get(url).text
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode == 128 + signal.SIGINT
        with pytest.raises(httpx2.TransportError):
            httpx2.get(url)
    finally:
        process.kill()
        process.communicate()
