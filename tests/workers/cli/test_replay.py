"""``outgate replay`` as a person runs it: processes, a real sink, a real gateway, a kill in the middle."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.kit import sink
from tests.kit.gateway import Gateway
from tests.kit.ports import find_free_port
from tests.kit.sink import Sink
from workers.cli.main import main
from workers.replay.page import make_page

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
needs_sink = pytest.mark.skipif(sink.find_obstacle() is not None, reason=str(sink.find_obstacle()))


def write(directory: Path, count: int) -> Path:
    directory.mkdir()
    for number in range(count):
        (directory / f"{number:05}.eml").write_bytes(
            b"From: ann@acme.example\r\nTo: bob@example.com\r\nSubject: %d\r\n\r\nhello\r\n"
            % number
        )
    return directory


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "workers.cli", "replay", *map(str, words)]


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )


@needs_sink
def test_a_corpus_goes_to_a_sink_and_the_report_says_how(tmp_path: Path) -> None:
    corpus, page = write(tmp_path / "corpus", 300), tmp_path / "report.html"
    with Sink() as receiver:
        done = run(corpus, "--to", f"127.0.0.1:{receiver.port}", "--json", "--report", page)
        assert receiver.count == 300

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["ok"]
    assert report["messages"]["accepted"] == report["recipients"]["accepted"] == 300
    assert report["latency"]["dot"]["count"] == 300
    assert sum(report["course"]["accepted"]) == 300
    text = page.read_text()
    assert text.count("<svg") == 2
    # Nothing is loaded from anywhere.
    assert not re.search(r"https?://|src=|@import|url\(|<script|<link", text)


@needs_sink
def test_after_kill_9_only_what_was_in_flight_is_sent_again(tmp_path: Path) -> None:
    corpus, state = write(tmp_path / "corpus", 400), tmp_path / "state"
    with Sink() as receiver:
        words = (corpus, "--to", f"127.0.0.1:{receiver.port}", "--state", state, "--connections", 5)
        process = subprocess.Popen(
            command(*words, "--rate", "150/s"),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        assert receiver.wait(60, seconds=60)
        process.kill()
        process.wait()
        before = receiver.count
        done = run(*words, "--json")
        assert before < 400
        assert 400 <= receiver.count <= 400 + 5

    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert before - 5 <= report["messages"]["earlier"]["accepted"] <= before
    assert report["messages"]["taken"] == 400


@needs_sink
def test_ctrl_c_ends_it_with_the_report_so_far(tmp_path: Path) -> None:
    corpus = write(tmp_path / "corpus", 50)
    with Sink() as receiver:
        process = subprocess.Popen(
            command(corpus, "--to", f"127.0.0.1:{receiver.port}", "--rate", "20/s", "--repeat", "--json"),
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert receiver.wait(5, seconds=60)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
        arrived = receiver.count

    report = json.loads(out)
    assert process.returncode == 130
    assert report["stopped"]
    assert report["messages"]["accepted"] == report["messages"]["taken"] == arrived


@needs_sink
def test_refusals_are_told_apart(tmp_path: Path) -> None:
    with Sink("-r", "rcpt") as receiver:  # a soft error to each RCPT
        done = run(
            write(tmp_path / "corpus", 3), "--to", f"127.0.0.1:{receiver.port}", "--retries", 1,
            "--retry-wait", "10ms",
        )  # fmt: skip

    assert done.returncode == 1
    assert "3 messages: 0 accepted, 3 failed" in done.stdout
    assert "6 x RCPT: 450" in done.stdout


def test_our_gateway_takes_it_over_tls(tmp_path: Path) -> None:
    from tests.kit.authority import Authority

    authority = Authority()
    chain, key = authority.issue("gateway.example.net").write(tmp_path)
    trusted = authority.write(tmp_path)
    tls = f'tls.certificate = "{chain}"\ntls.key = "{key}"'
    with Gateway({"*": find_free_port()}, ingress=tls) as gateway:
        done = run(
            write(tmp_path / "corpus", 40), "--to", f"127.0.0.1:{gateway.port}", "--real-senders",
            "--tls", "verify", "--tls-name", "gateway.example.net", "--ca-file", trusted, "--json",
        )  # fmt: skip
        ledger = gateway.read_ledger()

    report = json.loads(done.stdout)
    assert done.returncode == 0, report
    assert list(report["connections"]["protection"]) == ["TLSv1.3"]
    assert ledger.accepted == 40


def test_nobody_there_is_one_line(tmp_path: Path) -> None:
    started = time.monotonic()
    done = run(write(tmp_path / "corpus", 30), "--to", f"127.0.0.1:{find_free_port()}")

    assert done.returncode == 1
    assert done.stderr.count("cannot connect") == 1
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "127.0.0.1:1", "--factor", "2"], "--factor: only with --as-recorded"),
        (["--to", "127.0.0.1:1", "--scrub-key-file", "x"], "only with --scrub"),
        (["--to", "127.0.0.1:1", "--rcpt", "a\r\nb@c"], "not to be sent"),
        (["--to", "127.0.0.1:1", "--rcpt", "@a.test", "--rcpt", "b@c"], "only one"),
    ],
)
def test_what_makes_no_sense_is_said(
    tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(write(tmp_path / "corpus", 1)), *words]) == 2
    assert said in capsys.readouterr().err


def test_a_secret_field_is_put_on_top_and_a_bad_file_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad").write_bytes(b"X-A: b\r\nX-C: d\r\n")
    words = ["replay", str(write(tmp_path / "corpus", 1)), "--to", "127.0.0.1:1"]

    assert main([*words, "--header-file", str(tmp_path / "bad")]) == 1
    assert "expected one line" in capsys.readouterr().err


def test_scrubbing_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "clean"
    words = ["replay", str(write(tmp_path / "corpus", 5)), "--scrub", str(out), "--count", "3"]

    assert main(words) == 0
    files = sorted(out.rglob("*.eml"))
    assert len(files) == 3
    assert b"acme" not in files[0].read_bytes()
    assert main(words) == 1
    assert "not empty" in capsys.readouterr().err
    assert os.stat(out).st_mode & 0o077 == 0


def test_a_page_says_nothing_as_markup() -> None:
    empty = {"count": 0, "p50": None, "p90": None, "p99": None, "max": None}
    page = make_page(
        {
            "to": "<b>:25", "seconds": 1.0, "rate": 0.0, "octet_rate": 0, "stopped": True,
            "messages": {"taken": 1, "accepted": 0, "failed": 1, "earlier": {}},
            "connections": {"protection": {}},
            "latency": {"connect": empty, "dot": empty, "whole": empty},
            "left_out": {}, "damaged": [],
            "replies": [{"count": 1, "command": "MAIL", "code": 550, "text": "<script>", "label": ""}],
            "failed": [{"name": "\udcff<i>", "ended": "failed", "tries": 1, "reply": "550 <x>"}],
            "course": {"step": 1.0, "accepted": [0], "failed": [1], "p50": [None], "p99": [None]},
        }
    )  # fmt: skip

    assert "<script>" not in page
    assert "<i>" not in page
    assert "&lt;script&gt;" in page
