"""``outgate demo``: the whole job on loopback, and an account of it that does not take its word.

A gateway (``outgate up`` with the embedded store), three sources, eight receivers of which five
misbehave, a corpus over STARTTLS; then every recipient is looked up where it should have arrived.
"""

import argparse
import contextlib
import json
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import trio
from rich.console import Console

from relay.errors import ConfigError, StartError, StoreUnavailable
from workers.cli.closing import Result, print_next_steps, print_result, to_json
from workers.cli.progress import ReceiverCount, Snapshot, SourceCount, open_display
from workers.emulation.books import close_books
from workers.emulation.corpus import Corpus, GeneratedCorpus
from workers.emulation.gateway import Gateway, run_gateway
from workers.emulation.internet import Internet
from workers.emulation.mailbox import open_files
from workers.emulation.premises import (
    HOSTNAME,
    DemoSource,
    Premises,
    choose_dashboard,
    choose_sources,
    make_premises,
)
from workers.emulation.sender import Sender

_MESSAGES = 2000
_WATCHED, _PACE = 36_000, 20.0  # messages with --watch, and how many a second: half an hour
_EMPTY = 100.0  # seconds for the queue to empty after the last message was accepted
_LOOK = 0.25  # seconds between two looks at the ledger
_BY_SIGNAL = 128  # what a shell adds to the number of the signal that ended a program
_ZERO = dict.fromkeys(("accepted", "delivered", "bounced", "queued", "unknown"), 0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what is the demo's own."""
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="eml files, or directories of them, to send"
    )
    parser.add_argument(
        "--messages",
        type=_read_count,
        metavar="N",
        help=f"how many to send (default: {_MESSAGES}, or each file once)",
    )
    parser.add_argument(
        "--watch",
        action="store_true",
        help=f"with the dashboard, and {_PACE:g} messages a second until Ctrl-C (or {_WATCHED:,} messages)",
    )
    parser.add_argument(
        "--keep", metavar="DIR", help="a new directory for configuration, store and logs, kept"
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="other messages, other recipients"
    )


def _read_count(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number of messages, got {text!r}")
    return number


def run(arguments: argparse.Namespace) -> int:
    """Run the demo; 0 when nothing was lost. Raises ConfigError, StartError."""
    if arguments.config:
        raise ConfigError(["demo writes a configuration of its own: leave -c out"])
    corpus, left_out = _open_corpus(arguments)
    console = Console(stderr=arguments.json, highlight=False)
    with _open_directory(arguments.keep) as directory:
        demo = Demo(
            corpus, left_out, directory, console,
            own_corpus=not arguments.paths, watched=arguments.watch,
        )  # fmt: skip
        result = trio.run(demo.run)
        if result is None:
            console.print("Stopped; nothing is left behind." if not arguments.keep else "Stopped.")
            return _BY_SIGNAL + demo.signal
        kept = directory if arguments.keep else None
        problems = result.find_problems()
        print_result(console, result, problems)
        if problems:
            console.print(f"The gateway's log is in {demo.keep_log()}", soft_wrap=True)
        print_next_steps(console, result, kept)
    if arguments.json:
        print(json.dumps(to_json(result, problems, kept)))
    return 1 if problems else 0


def _open_corpus(arguments: argparse.Namespace) -> tuple[Corpus, Counter[str]]:
    if arguments.paths:
        return open_files(arguments.paths, seed=arguments.seed, count=arguments.messages)
    usual = _WATCHED if arguments.watch else _MESSAGES
    return GeneratedCorpus(arguments.seed, arguments.messages or usual), Counter()


@contextlib.contextmanager
def _open_directory(keep: str | None) -> Iterator[Path]:
    """Make the directory that everything is in; without ``keep`` it is removed at the end."""
    if keep is not None:
        directory = Path(keep).absolute()
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if any(directory.iterdir()):
                raise StartError(f"--keep {keep}: the directory is not empty; name a new one")
        except OSError as error:
            raise StartError(f"--keep {keep}: {error.strerror}; name another one") from error
        yield directory
        return
    directory = Path(tempfile.mkdtemp(prefix="outgate-demo-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@dataclass
class Demo:
    """One run. ``phase``, ``ledger`` and ``notices`` are what the display shows."""

    corpus: Corpus
    left_out: Counter[str]
    directory: Path
    console: Console
    own_corpus: bool
    watched: bool = False  # with the dashboard, and slowly
    phase: str = "starting the gateway"
    ledger: dict[str, int] = field(default_factory=lambda: dict(_ZERO))
    notices: dict[str, int] = field(default_factory=lambda: dict(_ZERO))

    def __post_init__(self) -> None:
        self.premises: Premises = make_premises(self.directory)
        self.sources: tuple[DemoSource, ...] = choose_sources()
        self.internet = Internet(self.premises.receiver_context)
        self.dashboard = choose_dashboard() if self.watched else None
        self.premises.write_configuration(
            self.internet.receivers, self.sources, dashboard=self.dashboard
        )
        context = self.premises.sender_context
        rate = _PACE if self.watched else 0.0
        self.sender = Sender(self.corpus, self.premises.port, HOSTNAME, context, rate=rate)
        self.recipients = sum(
            len(self.corpus.envelope(number).recipients) for number in range(len(self.corpus))
        )
        self.sending = self.emptying = 0.0
        self.signal = 0  # that ended the demo early

    async def run(self) -> Result | None:
        """Run it; None when a signal ended it early. Raises StartError."""
        self._say_what_is_different()
        if self.dashboard is not None:
            self.console.print(
                f"The dashboard: http://127.0.0.1:{self.dashboard}/ (Ctrl-C ends the demo)\n"
            )
        try:
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async with trio.open_nursery() as nursery:
                    work = trio.CancelScope()
                    nursery.start_soon(self._heed, signals, work)
                    with work:
                        await self._demonstrate()
                    nursery.cancel_scope.cancel()
        finally:
            self.internet.close()
        return None if self.signal else self._close()

    def _say_what_is_different(self) -> None:
        if len({source.address for source in self.sources}) == 1:
            self.console.print(
                "This machine has no 127.0.0.11 to 13 (macOS does not): "
                "all three sources send from 127.0.0.1.",
                soft_wrap=True,
            )

    async def _heed(self, signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        # Also while it is being cancelled: stopping is bounded, and has things to clean up.
        async for number in signals:
            self.signal = number
            scope.cancel()

    async def _demonstrate(self) -> None:
        async with trio.open_nursery() as receivers:
            receivers.start_soon(self.internet.serve)
            self._began = trio.current_time()
            with open_display(self.console) as show:
                show(self._take_snapshot())
                async with run_gateway(self.premises) as gateway:
                    await self._send_and_wait(gateway, show)
                    self.phase = "stopping the gateway"
                    show(self._take_snapshot())
                self.phase = "done"
                show(self._take_snapshot())
            receivers.cancel_scope.cancel()

    async def _send_and_wait(self, gateway: Gateway, show: Callable[[Snapshot], None]) -> None:
        self._began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gateway.watch)
            nursery.start_soon(self._look, gateway, show)
            self.phase = "sending"
            await self.sender.run()
            self.sending = trio.current_time() - self._began
            self.phase = "waiting until nothing is queued"
            with trio.move_on_after(_EMPTY):
                await self._wait_until_empty(gateway)
            self.emptying = trio.current_time() - self._began
            nursery.cancel_scope.cancel()

    async def _look(self, gateway: Gateway, show: Callable[[Snapshot], None]) -> None:
        while True:
            await self._read(gateway)
            show(self._take_snapshot())
            await trio.sleep(_LOOK)

    async def _wait_until_empty(self, gateway: Gateway) -> None:
        while True:
            await self._read(gateway)
            if not self.ledger["queued"] and not self.notices["queued"]:
                return
            await trio.sleep(_LOOK)

    async def _read(self, gateway: Gateway) -> None:
        try:
            ledgers = await gateway.store.read_ledger()
            self.ledger, self.notices = ledgers["ledger"], ledgers["notices"]
        except* StoreUnavailable:
            pass  # the old figures will do: either it comes back, or `watch` says what happened

    def _take_snapshot(self) -> Snapshot:
        return Snapshot(
            phase=self.phase,
            elapsed=trio.current_time() - self._began,
            messages=len(self.corpus),
            sent=len(self.sender.sent),
            recipients=self.recipients,
            ledger=self.ledger,
            sources=self._count_sources(),
            receivers=tuple(
                ReceiverCount(r.domains[0], r.behaviour.summary, r.inbox.messages)
                for r in self.internet.receivers
            ),
        )

    def _count_sources(self) -> tuple[SourceCount, ...]:
        counts = self.internet.count_sources()
        return tuple(
            SourceCount(s.name, s.address, s.weight, counts[s.ehlo.encode()]) for s in self.sources
        )

    def _close(self) -> Result:
        inboxes = [receiver.inbox for receiver in self.internet.receivers]
        seen = {s: self.internet.find_addresses(s.ehlo.encode()) for s in self.sources}
        return Result(
            books=close_books(self.sender.sent, self.sender.unanswered, inboxes),
            ledger=self.ledger,
            notices=self.notices,
            sender=self.sender,
            sources=self._count_sources(),
            misplaced={s.name: a - {s.address} for s, a in seen.items() if a - {s.address}},
            receivers=self.internet.receivers,
            sending=self.sending,
            emptying=self.emptying,
            left_out=self.left_out,
            own_corpus=self.own_corpus,
        )

    def keep_log(self) -> Path:
        """Copy the gateway's log to where it outlives the directory; return the copy's path."""
        copy = Path(tempfile.mkdtemp(prefix="outgate-demo-failed-")) / "gateway.log"
        shutil.copyfile(self.premises.log, copy)
        return copy
