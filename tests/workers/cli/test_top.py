"""``outgate top``: one look as data and as a picture, live with events, and what the store's end does."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from relay.events import encode_event
from relay.store.keys import EVENTS_CHANNEL
from relay.store.queue import Store
from tests.kit.command import Desk, make_desk, note_site, post
from tests.kit.redis import Server, open_server
from workers.cli.toppage import draw
from workers.views.pulse import Beat, reckon_rates

_ROOT = Path(__file__).parents[3]


async def test_one_look_says_what_waits_by_site_and_why(desk: Desk, store: Store) -> None:
    await post(store, "r@y.test", "s@y.test")
    await post(store, "r@z.test")
    await note_site(store, "big", "acme/y.test")

    said = await desk.ask("top", "--once")

    assert said["ledger"]["queued"] == 3
    assert said["rates"] == {"accepted": None, "delivered": None, "bounced": None, "deferred": None}
    assert {row["site"]: row["ready"] for row in said["sites"]} == {"big": 1, "": 1}
    assert all(row["text"] for row in said["sites"])
    assert [cell["source"] for cell in said["grid"]["cells"] if cell["site"] == "big"] == ["a"]


async def test_a_picture_of_it_is_printed(desk: Desk, store: Store) -> None:
    await post(store, "r@y.test")
    await note_site(store, "big", "acme/y.test")

    done = await desk.call("top", "--once")

    assert done.status == 0, done.err
    assert "what waits, by site" in done.out
    assert "big" in done.out
    assert "accepted 1" in done.out


async def test_without_a_store_it_is_one_line(tmp_path: Path) -> None:
    with open_server() as server:
        desk = make_desk(tmp_path, server)
    done = await desk.call("top", "--once")

    assert done.status == 1
    assert done.err.startswith("outgate: ")


def test_rates_are_differences_and_never_negative() -> None:
    before, now = (
        Beat(10.0, {"accepted": 5, "bounced": 9}),
        Beat(12.0, {"accepted": 25, "bounced": 0}),
    )

    assert reckon_rates(None, now) == {"accepted": None, "bounced": None}
    assert reckon_rates(before, now) == {"accepted": 10.0, "bounced": 0.0}
    assert reckon_rates(now, now) == {"accepted": None, "bounced": None}


def make_state(sources: int, sites: int) -> dict[str, Any]:
    names = [f"source-{n}" for n in range(sources)]
    places = [f"site-{n}.example" for n in range(sites)]
    states = ["ok", "slowed", "quarantined", "warming", "suspended"]
    return {
        "time": 1e9, "trouble": "", "workers": 2, "adds_up": True,
        "rates": {"accepted": 1234.5, "delivered": 3.2, "bounced": 0.0, "deferred": None},
        "ledger": dict.fromkeys(("accepted", "delivered", "bounced", "queued"), 123_456_789),
        "deliveries": {"queues": 10_000, "ready": 1, "due": 2, "claimed": 3, "oldest": 90_000.0},
        "sources": dict.fromkeys(names, True), "suspensions": [{"text": "source a: " + "x" * 200}],
        "tenants": {"acme": {"state": "slow", "reason": "many \x1b[31mcomplaints"}},
        "store": {"weaknesses": ["appendonly is off"]},
        "sites": [
            {"site": place, "ready": 1_000_000, "due": 2, "claimed": 3, "queues": 9, "oldest": 5.0,
             "domain": place, "why": "rest", "text": "[bold]rests\n" + "y" * 300}
            for place in places
        ],
        "grid": {"sources": names, "sites": places, "cells": [
            {"source": name, "site": place, "score": 0.5, "known": True, "pace": 0.2,
             "state": states[(n + m) % 5], "text": "", "warmup": {"used": 5, "allowance": 10}}
            for n, name in enumerate(names) for m, place in enumerate(places)
        ]},
    }  # fmt: skip


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 30), (200, 60)])
@pytest.mark.parametrize(("sources", "sites"), [(1, 0), (3, 5), (40, 40)])
def test_the_picture_fits_the_terminal(width: int, height: int, sources: int, sites: int) -> None:
    console = Console(width=width, height=height, force_terminal=True, color_system=None)
    event = {"time": 1e9, "event": "deferred", "tenant": "acme", "text": "[red]\x1b[2J" + "z" * 300}
    with console.capture() as capture:
        console.print(draw(make_state(sources, sites), [event] * 50, width, height))

    lines = capture.get().rstrip("\n").split("\n")
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert "\x1b[2J" not in capture.get()
    assert "[red]" in capture.get()  # is no markup
    assert sum("deferred" in line for line in lines) >= 2


def _tell(server: Server) -> None:
    events = [{"time": 1e9, "event": "slowed", "site": "big"}, {"time": 1e9, "event": "accepted"}]
    with server.client() as client:
        client.publish(EVENTS_CHANNEL, b"\n".join(map(encode_event, events)))


@contextlib.contextmanager
def open_top(desk: Desk, *words: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "workers.cli", "top", "-c", desk.file, "--interval", "300ms", *words],
        cwd=_ROOT, text=True, **options,
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.slow
def test_it_is_live_and_outlives_the_store(tmp_path: Path) -> None:
    with open_server() as server:
        desk = make_desk(tmp_path, server)
        with open_top(desk, "--json", stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            lines = (json.loads(line) for line in process.stdout)
            first, second = next(lines), next(lines)
            assert first["rates"]["accepted"] is None
            assert second["rates"]["accepted"] == 0.0
            deadline = time.monotonic() + 60
            seen: list[dict[str, Any]] = []
            while not seen and time.monotonic() < deadline:
                _tell(server)
                seen = next(lines)["events"]
            assert seen[0]["event"] == "slowed"
            assert all(one["event"] != "accepted" for one in seen)
            server.stop()
            assert next(state["trouble"] for state in lines if state["trouble"])
            process.send_signal(signal.SIGINT)
            process.wait(30)
            assert process.returncode == 0


@pytest.mark.slow
def test_q_ends_it_and_leaves_the_terminal_as_it_was(server: Server, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    terminal = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    with open_top(
        make_desk(tmp_path, server), stdin=theirs, stdout=theirs, stderr=theirs, env=terminal
    ) as process:
        said = b""
        while b"what waits" not in said:
            said += os.read(ours, 65536)
        os.write(ours, b"q")
        os.set_blocking(ours, False)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                os.read(ours, 65536)
            time.sleep(0.02)
        assert process.returncode == 0
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)
