"""The command line beside a running gateway, as an operator has it: each command is a process."""

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis

from relay.events import decode_event
from relay.store.keys import SHARDS, make_key
from tests.kit.command import Done
from tests.kit.gateway import Gateway

_ROOT = Path(__file__).parents[2]
_ENVIRONMENT = {"COLUMNS": "200", "SUDO_USER": "ann"}


class Console:
    """Commands, the event log and the store of one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def call(self, *words: str) -> Done:
        """Run ``outgate WORDS``."""
        done = self.call_raw(*words)
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def call_raw(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        """The same; for commands that print octets."""
        name, *rest = words
        return subprocess.run(
            [sys.executable, "-m", "workers.cli", name, "-c", str(self._gateway.config), *rest],
            cwd=_ROOT,
            env={**os.environ, **_ENVIRONMENT},
            capture_output=True,
            check=False,
            timeout=60,
        )

    def ask(self, *words: str) -> Any:
        """Run a command with ``--json`` that must succeed; return what it said."""
        done = self.call(*words, "--json")
        assert done.status == 0, done
        return done.said

    @property
    def state(self) -> Path:
        """The state directory."""
        return self._gateway.directory / "state"

    def read_events(self, *names: str) -> list[dict[str, Any]]:
        """Return the events of these names in the log."""
        whole = (self.state / "events.jsonl").read_bytes().rpartition(b"\n")[0]
        return [e for e in map(decode_event, whole.splitlines()) if e["event"] in names]

    def wait_for_events(self, *names: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until so many are in the log."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            found[:] = self.read_events(*names)
            return len(found) >= count

        wait_until(look, f"{count} of {names}")
        return found

    def open_store(self) -> redis.Redis:
        """Connect to the embedded store."""
        connection = json.loads((self.state / "store/connection.json").read_bytes())
        return redis.Redis.from_url(connection["url"])


def read_story(client: redis.Redis, message_id: str) -> list[dict[str, Any]]:
    """Return everything that happened to a message, as the store has it."""
    return [
        decode_event(line)
        for shard in range(SHARDS)
        for line in (client.get(make_key(shard, "story", message_id)) or b"").splitlines()
    ]


def read_trail(directory: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of an audit trail, chain by chain; half ones stand for nothing."""
    for file in sorted(directory.rglob("*.jsonl")):
        lines = file.read_bytes().splitlines(keepends=True)
        for line, after in itertools.zip_longest(lines, lines[1:], fillvalue=b""):
            if line.endswith(b"\n") and b'"event":"torn"' not in after:
                yield decode_event(line)


def wait_until(true: Callable[[], bool], what: str, *, seconds: float = 15) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
