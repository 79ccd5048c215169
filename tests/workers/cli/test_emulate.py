"""`outgate emulate` as a person runs it: a process, its lines, and how it ends."""

import json
import os
import signal
import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.kit.ports import find_free_port, is_listening

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
PROVIDERS = """
[[provider]]
name = "big"
style = "google"
domains = ["big.test"]
listen = "127.0.0.1:{port}"
rate = "1/h"
unknown = 0.0
[[provider]]
name = "small"
domains = ["small.test"]
"""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "workers.cli", "emulate", *arguments]


# A configuration of the gateway's is none of providers: it must not be looked at.
ENVIRONMENT = {**os.environ, "OUTGATE_CONFIG": "/nowhere/outgate.toml", "COLUMNS": "160"}


@contextmanager
def start(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command(*arguments),
        cwd=ROOT,
        env=ENVIRONMENT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env=ENVIRONMENT,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def port() -> int:
    return find_free_port()


@pytest.fixture
def file(tmp_path: Path, port: int) -> str:
    path = tmp_path / "providers.toml"
    path.write_text(PROVIDERS.format(port=port))
    return str(path)


def read(line: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(line)
    return document


def test_what_is_sent_is_counted_and_a_signal_ends_it(file: str, port: int) -> None:
    with start("-c", file, "--json", "--every", "200ms") as process:
        assert process.stdout is not None
        begun = read(process.stdout.readline())
        assert begun["event"] == "begun"
        assert f'hosts = ["127.0.0.1:{port}"]' in begun["routes"]
        with smtplib.SMTP("127.0.0.1", port, source_address=("127.0.0.11", 0)) as client:
            client.sendmail("a@acme.test", ["b@big.test"], b"Subject: x\r\n\r\nhello\r\n")
            with pytest.raises(smtplib.SMTPResponseException) as caught:
                client.sendmail("a@acme.test", ["b@big.test"], b"Subject: x\r\n\r\nhello\r\n")
        assert caught.value.smtp_code == 421
        while True:
            counts = read(process.stdout.readline())
            if counts["providers"]["big"]["total"]["throttled"]:
                break

        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)

    assert process.returncode == 0, err
    assert err == ""
    ended = read(out.splitlines()[-1])
    assert ended["event"] == "ended"
    client_counts = ended["providers"]["big"]["clients"]["127.0.0.11"]
    assert (client_counts["accepted"], client_counts["throttled"]) == (1, 1)
    assert ended["providers"]["small"]["clients"] == {}
    assert not is_listening(port)


def test_without_a_terminal_it_says_a_line_now_and_then(file: str) -> None:
    done = call("-c", file, "--for", "1s", "--every", "300ms")

    assert done.returncode == 0, done.stderr
    assert "# For outgate.toml:" in done.stdout
    assert 'domains = ["small.test"]' in done.stdout
    assert "big 0 accepted, 0 throttled, 0 blocked; small 0 accepted" in done.stdout
    assert "against it" in done.stdout.splitlines()[-4]


def test_the_authority_can_be_had(file: str, tmp_path: Path) -> None:
    done = call("-c", file, "--for", "100ms", "--authority", str(tmp_path / "authority.pem"))

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "authority.pem").read_text().startswith("-----BEGIN CERTIFICATE-----")


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        ("", 2, "providers.toml: provider: expected 1 to 1000 tables"),
        (PROVIDERS.replace("rate", "rates"), 2, "provider[0].rates: unknown key; did you mean"),
        ('[[provider]]\nname = "a"\n', 2, "provider[0].domains: missing"),
        (
            '[[provider]]\nname = "a"\ndomains = ["a.test"]\nlisten = "127.0.0.1:{taken}"\n',
            1,
            "another program has it: stop that, or change provider[0].listen",
        ),
    ],
)
def test_what_cannot_be_done_is_said_at_once(
    tmp_path: Path, port: int, text: str, status: int, said: str
) -> None:
    path = tmp_path / "providers.toml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        text = text.replace("{taken}", str(taken.getsockname()[1])).replace("{port}", str(port))
        path.write_text(text)
        done = call("-c", str(path), "--for", "1s")

    assert done.returncode == status
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_spans_are_read() -> None:
    done = call("--for", "soon")

    assert done.returncode == 2
    assert "expected a duration such as" in done.stderr
