"""``outgate classify``, as people call it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).parents[3]
_COMMAND = [sys.executable, "-m", "workers.cli", "classify"]
REPLIES = (
    b"550 5.1.1 no such user\n"
    b"\n"
    b"550-5.7.1 [192.0.2.1] Our system has detected that this\n"
    b"550 5.7.1 message is likely unsolicited mail. - gsmtp\n"
    b"421 4.7.0 [TSS04] temporarily deferred\r\n"
    b"5.2.2 Mailbox full\n"
    b"no such user \xff\n"
    b"550-a\\n550 5.1.1 unknown user\n"
)
LABELS = [
    "mailbox_unknown", "content_spam", "ip_reputation_block", "mailbox_full", "mailbox_unknown",
    "mailbox_unknown",
]  # fmt: skip


def classify(replies: bytes, *words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*_COMMAND, *words],
        cwd=_ROOT,
        input=replies,
        env={**os.environ, "COLUMNS": "110", "LC_ALL": "C"},
        capture_output=True,
        timeout=30,
        check=False,
    )


def read_objects(done: subprocess.CompletedProcess[bytes]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_an_object_for_each_reply_in_their_order() -> None:
    done = classify(REPLIES, "--json")

    assert (done.returncode, done.stderr) == (0, b"")
    found = read_objects(done)
    assert [one["label"] for one in found] == LABELS
    assert found[1] == {
        "code": 550,
        "status": "5.7.1",
        "text": "[192.0.2.1] Our system has detected that this message is likely unsolicited mail. - gsmtp",
        "label": "content_spam",
        "blame": "message",
        "action": "bounce",
        "permanent": True,
        "rule": "google-unsolicited",
        "rest": 0.0,
    }
    assert (found[2]["action"], found[2]["rest"]) == ("slow-source", 600)
    assert (found[3]["code"], found[3]["permanent"]) == (0, True)


@pytest.mark.slow
def test_objects_come_while_more_is_read() -> None:
    with subprocess.Popen(
        [*_COMMAND, "--json"], cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(2):
            process.stdin.write(b"550 5.1.1 no such user\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["label"] == "mailbox_unknown"
        process.stdin.close()


@pytest.mark.slow
def test_a_table_for_people() -> None:
    done = classify(b"550 5.1.1 no \x1b[31msuch user\n")

    said = done.stdout.decode()
    assert done.returncode == 0
    for word in ("label", "mailbox_unknown", "recipient", "bounce", "mailbox-unknown", "550 5.1.1"):
        assert word in said
    assert "\x1b" not in said


@pytest.mark.slow
def test_a_provider_has_rules_of_its_own() -> None:
    known = read_objects(classify(b"421 4.7.0 [TSS04] x\n", "--json", "--provider", "google"))
    assert known[0]["rule"] != "yahoo-temporarily-deferred"
    done = classify(b"421 4.7.0 [TSS04] x\n", "--json", "--provider", "gogle")
    assert b"no rules for gogle" in done.stderr
    assert read_objects(done)[0]["rule"] == "yahoo-temporarily-deferred"


@pytest.mark.slow
def test_a_line_without_end_is_cut() -> None:
    found = read_objects(classify(b"550 no such user " + b"x" * 1_000_000 + b"\n421 y\n", "--json"))

    assert [one["code"] for one in found] == [550, 421]
    assert len(found[0]["text"]) < 100_000


@pytest.mark.slow
def test_nothing_is_a_failure() -> None:
    done = classify(b"\n\n")

    assert (done.returncode, done.stdout) == (1, b"")
    assert b"no replies on standard input" in done.stderr
