"""``outgate top``: what flows, what waits and why, how sources stand, what happened last; live."""

import argparse
import contextlib
import json
import os
import sys
import termios
import time
import tty
from collections import deque
from collections.abc import Iterator
from typing import Any

import trio
from rich.console import Console
from rich.live import Live

from relay.config import Config, load
from relay.config.units import parse_seconds
from relay.errors import StoreError, StoreUnavailable
from relay.signals import wait_for_stop
from relay.store.embedded import find_url
from relay.store.queue import Store
from workers.admin.hearing import Hearing
from workers.cli.asking import open_store
from workers.cli.page import open_console
from workers.cli.toppage import draw
from workers.views.pulse import Beat, read_pulse, reckon_rates

_INTERVAL = 2.0
_SITES = 40
_EVENTS = 50  # that are remembered
_SHARE = 9  # times as long as a look takes it rests after it: looking must not be the load
# Too many to watch; `outgate tail` shows them.
_USUAL = frozenset(("accepted", "delivered", "attempt", "enqueued", "session"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add how often."""
    parser.add_argument(
        "--interval", metavar="SPAN", type=_read_interval, default=_INTERVAL,
        help="between two looks (default: 2s)",
    )  # fmt: skip
    parser.add_argument("--once", action="store_true", help="look once, and end")
    parser.epilog = (
        f"{parser.epilog}\n\nq or Ctrl-C ends it. --json prints an object for each look; rates are by the "
        "second since the one before, null in the first."
    )


def _read_interval(text: str) -> float:
    try:
        seconds = parse_seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if seconds < 0.2:
        raise argparse.ArgumentTypeError(f"expected at least 200ms, got {text!r}")
    return seconds


def run(arguments: argparse.Namespace) -> int:
    """Show until it is ended. Raises ConfigError, StartError."""
    config = load(arguments.config)
    console = open_console()
    top = Top(config, console, arguments.interval, once=arguments.once, as_json=arguments.json)
    trio.run(top.run)
    return 0


class Top:
    """One run."""

    def __init__(
        self, config: Config, console: Console, interval: float, *, once: bool, as_json: bool
    ) -> None:
        self._config = config
        self._console = console
        self._interval = interval
        self._once = once
        self._as_json = as_json
        self._events: deque[dict[str, Any]] = deque(maxlen=_EVENTS)
        self._state: dict[str, Any] | None = None
        self._beat: Beat | None = None

    async def run(self) -> None:
        """Look, and show. Raises StartError when there is no store at the beginning."""
        async with open_store(self._config) as store:
            if self._once:
                self._show(await self._look(store))
                return
            hearing = Hearing(find_url(self._config))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(hearing.run)
                nursery.start_soon(self._listen, hearing)
                nursery.start_soon(self._wait_for_q, nursery.cancel_scope)
                nursery.start_soon(wait_for_stop, nursery.cancel_scope.cancel)
                await self._go_on(store)

    async def _go_on(self, store: Store) -> None:
        is_live = self._console.is_terminal and not self._as_json
        live = Live(console=self._console, auto_refresh=False, screen=True) if is_live else None
        with (
            live or contextlib.nullcontext(),
            _read_keys() if is_live else contextlib.nullcontext(),
        ):
            while True:
                began = trio.current_time()
                self._show(await self._look(store), live)
                took = trio.current_time() - began
                await trio.sleep(max(self._interval - took, _SHARE * took))

    async def _look(self, store: Store) -> dict[str, Any]:
        """Return the state; without a store, the last one with the trouble in it."""
        now = time.time()
        try:
            state = await read_pulse(store, self._config, sites=_SITES)
        except (StoreUnavailable, StoreError) as error:
            if self._state is None:
                raise
            return self._state | {"time": now, "trouble": str(error)}
        beat = Beat(trio.current_time(), state.pop("sums"))
        rates, self._beat = reckon_rates(self._beat, beat), beat
        self._state = {"time": now, "trouble": "", "rates": rates, **state}
        return self._state

    def _show(self, state: dict[str, Any], live: Live | None = None) -> None:
        if self._as_json:
            print(json.dumps(state | {"events": list(self._events)}), flush=True)
            return
        size = self._console.size
        picture = draw(state, self._events, self._console.width, size.height)
        if live is not None:
            live.update(picture, refresh=True)
        else:
            self._console.print(picture)

    async def _listen(self, hearing: Hearing) -> None:
        async with hearing.open() as batches:
            await batches.receive()  # that nothing was heard before is no news
            async for batch in batches:
                self._events.extend(one for one in batch if one.get("event") not in _USUAL)

    async def _wait_for_q(self, scope: trio.CancelScope) -> None:
        if not self._console.is_terminal or not sys.stdin.isatty():
            return
        while True:
            await trio.lowlevel.wait_readable(sys.stdin.fileno())
            if os.read(sys.stdin.fileno(), 64)[:1] in (b"q", b"Q", b""):
                scope.cancel()


@contextlib.contextmanager
def _read_keys() -> Iterator[None]:
    """Have keys at once, without Enter, and do not show them."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
