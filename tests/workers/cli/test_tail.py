"""``outgate tail``: what goes by, filtered; it outlives the store, and ends with Ctrl-C."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from relay.events import encode_event
from relay.store.keys import EVENTS_CHANNEL
from tests.kit.command import make_desk
from tests.kit.redis import Server, open_server

pytestmark = pytest.mark.slow

_ROOT = Path(__file__).parents[3]
EVENTS = [
    {"time": 1e9, "event": "accepted", "tenant": "acme", "id": "X", "sender": "a\u009b@x",
     "recipients": ["b@y.test"], "size": 10, "client": "192.0.2.1", "tls": ""},
    {"time": 1e9, "event": "slowed", "site": "big", "source": "a", "text": "450 [bold]slow down[/]"},
]  # fmt: skip


class Tail:
    """A running one, and what it prints."""

    def __init__(self, process: subprocess.Popen[bytes], directory: Path) -> None:
        self.process = process
        self._directory = directory

    def read(self, name: str) -> str:
        return (self._directory / name).read_text("utf-8")

    def wait(self, name: str, text: str) -> str:
        deadline = time.monotonic() + 30
        while text not in (said := self.read(name)):
            assert time.monotonic() < deadline, self.read("out") + self.read("err")
            assert self.process.poll() is None, self.read("err")
            time.sleep(0.02)
        return said


@contextmanager
def open_tail(server: Server, base: Path, *words: str) -> Iterator[Tail]:
    desk = make_desk(base, server)
    with (base / "out").open("wb") as out, (base / "err").open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers.cli", "tail", "-c", desk.file, *words],
            cwd=_ROOT, stdout=out, stderr=err,
        )  # fmt: skip
    with process:
        try:
            tail = Tail(process, base)
            tail.wait("err", "listening")
            yield tail
        finally:
            process.kill()


def publish(server: Server, *events: dict[str, object]) -> None:
    with server.client() as client:
        client.publish(EVENTS_CHANNEL, b"\n".join(map(encode_event, events)))


def test_a_line_for_each_event_and_no_orders_to_the_terminal(
    server: Server, tmp_path: Path
) -> None:
    with open_tail(server, tmp_path) as tail:
        publish(server, *EVENTS)
        said = tail.wait("out", "slow down")

    first, second = said.splitlines()
    assert "accepted    acme X  <a?@x> -> <b@y.test> 10 octets from 192.0.2.1 in clear" in first
    assert "slowed      site=big source=a 450 [bold]slow down[/]" in second


def test_json_is_as_it_was_told_and_filtered(server: Server, tmp_path: Path) -> None:
    with open_tail(server, tmp_path, "--json", "--event", "slowed", "--site", "big") as tail:
        publish(server, *EVENTS, EVENTS[1] | {"site": "other"})
        publish(server, EVENTS[1] | {"text": "last"})
        said = tail.wait("out", "last")

    assert [json.loads(line) for line in said.splitlines()] == [
        EVENTS[1],
        EVENTS[1] | {"text": "last"},
    ]


def test_it_waits_for_the_store_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    with open_server() as server, open_tail(server, tmp_path) as tail:
        server.kill()
        tail.wait("err", "events are not heard")
        server.start()
        tail.wait("err", "events are heard again")
        tail.wait("out", "events may be missing here")
        publish(server, *EVENTS)
        tail.wait("out", "slow down")

        tail.process.send_signal(signal.SIGINT)

        assert tail.process.wait(30) == 130
        assert "Traceback" not in tail.read("err")
