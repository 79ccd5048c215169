"""``outgate simulate``: the control loop against emulated providers, on a virtual clock.

The gateway's own gates, standings and reporters run in a store of their own; what is emulated is the
providers, the mail, and time. Policies are compared on the same world: the same mail at the same time,
the same chance at the providers.
"""

import argparse
import contextlib
import json
import signal
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path

import msgspec
import trio
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from relay.config import read
from relay.config.units import Seconds
from relay.errors import ConfigError
from relay.store.embedded import open_embedded
from relay.store.stilllink import keep_nothing
from workers.simulation.account import Account
from workers.simulation.agenda import START, Stopped
from workers.simulation.figures import Figures, make_figures
from workers.simulation.mix import Mix, list_mixes, load_mix, read_mix
from workers.simulation.page import make_page
from workers.simulation.plots import can_plot
from workers.simulation.policies import NAMES, Name
from workers.simulation.run import Run, simulate
from workers.simulation.table import show

_DEFAULT = "month"
_MOST_DAYS = 3660


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what is this command's own. ``-c`` names a file of providers, not the configuration."""
    parser.add_argument(
        "--mix",
        choices=list_mixes(),
        metavar="NAME",
        help=f"providers and mail that ship: {', '.join(list_mixes())} (default: {_DEFAULT}); "
        "-c FILE has others, as for `outgate emulate`",
    )
    parser.add_argument("--days", type=float, metavar="N", help="how long (default: the mix says)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="other mail, other luck")
    parser.add_argument(
        "--policy",
        choices=(*NAMES, "all"),
        default="all",
        help="the control loop, the fixed table of limits, or an oracle that knows what is taken",
    )
    parser.add_argument("--out", metavar="FILE", help="write a report with pictures, HTML")
    parser.add_argument(
        "--store", metavar="URL", help="an empty store to use (default: one of its own)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Simulate, print what came of it; 0 when nothing was lost. Raises ConfigError, StartError."""
    mix = _choose_mix(arguments)
    policies: Sequence[Name] = NAMES if arguments.policy == "all" else (arguments.policy,)
    console = Console(stderr=True, highlight=False)
    if arguments.out and not can_plot():
        console.print(
            "outgate: matplotlib is not installed, so the report has no pictures: "
            "pip install 'outgate[plots]'",
            soft_wrap=True,
        )
    try:
        runs = trio.run(_run_all, mix, policies, arguments, console)
    except* Stopped as error:
        raise KeyboardInterrupt from error
    figures = [make_figures(one) for one in runs]
    if arguments.out:
        _write(arguments.out, make_page(f"outgate simulate: {_name(arguments)}", runs, figures))
    if arguments.json:
        print(json.dumps(_to_json(mix, arguments, figures), indent=2))
    else:
        show(Console(width=None if sys.stdout.isatty() else 140, highlight=False), figures)
    return 1 if any(one.total("lost") for one in figures) else 0


def _choose_mix(arguments: argparse.Namespace) -> Mix:
    if arguments.mix and arguments.config:
        raise ConfigError(["--mix names what ships, -c FILE another one: not both"])
    mix = read_mix(arguments.config) if arguments.config else load_mix(arguments.mix or _DEFAULT)
    days = arguments.days
    if days is None:
        return mix
    if not 1 / 1440 <= days <= _MOST_DAYS:
        raise ConfigError(
            [f"--days: expected a minute's part of a day to {_MOST_DAYS}, got {days}"]
        )
    return msgspec.structs.replace(mix, lasts=Seconds(days * 86400))


def _name(arguments: argparse.Namespace) -> str:
    return arguments.config or arguments.mix or _DEFAULT


def _to_json(
    mix: Mix, arguments: argparse.Namespace, figures: Sequence[Figures]
) -> dict[str, object]:
    return {
        "mix": _name(arguments),
        "about": mix.about,
        "seed": arguments.seed,
        "days": mix.lasts / 86400,
        "runs": msgspec.to_builtins(figures),
    }


def _write(path: str, text: str) -> None:
    try:
        Path(path).write_text(text, "utf-8")
    except OSError as error:
        raise ConfigError([f"{path}: cannot be written: {error.strerror}"]) from error


async def _run_all(
    mix: Mix, policies: Sequence[Name], arguments: argparse.Namespace, console: Console
) -> list[Run]:
    """Run one policy after the other. Raises KeyboardInterrupt when a signal has ended it."""
    stop = threading.Event()
    runs: list[Run] = []
    async with _open_store(arguments.store) as url, trio.open_nursery() as nursery:
        await nursery.start(_watch_signals, stop)
        with _show_progress(console) as progress:
            for policy in policies:
                task = progress.add_task(policy, total=mix.lasts, day="")
                one = partial(
                    simulate,
                    mix,
                    arguments.seed,
                    policy,
                    url,
                    observe=partial(_observe, progress, task),
                    stop=stop,
                )
                # It has a loop and a clock of its own, in a thread: this one has the store's process.
                runs.append(await trio.to_thread.run_sync(one))
        nursery.cancel_scope.cancel()
    return runs


async def _watch_signals(
    stop: threading.Event, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """A thread cannot be interrupted; it is asked to end."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            stop.set()


def _observe(progress: Progress, task: TaskID, now: float, account: Account) -> None:
    delivered = sum(site.delivered for site in account.sites.values())
    day = f"day {(now - START) / 86400:.1f}, {delivered:,} delivered"
    progress.update(task, completed=now - START, day=day)


def _show_progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:7}"),
        BarColumn(),
        TextColumn("{task.fields[day]}"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )


@contextlib.asynccontextmanager
async def _open_store(url: str | None) -> AsyncIterator[str]:
    """Yield the URL of a store that may be filled and emptied. Raises StartError."""
    if url:
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="outgate-simulate-") as directory:
        config = read({"state_dir": directory}, base=Path(), environment={})
        async with open_embedded(config) as server:
            await trio.to_thread.run_sync(keep_nothing, server.url)
            yield server.url
