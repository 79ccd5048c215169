"""What the demo says at the end: the books, what was wrong if anything was, and what to try next."""

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from workers.cli.progress import SourceCount
from workers.emulation.books import Books
from workers.emulation.receiver import Receiver
from workers.emulation.sender import Sender

_FOUND = {
    "accepted": "recipients of the {books.messages:,} messages that got a 250",
    "delivered": "found at their receivers, by recipient and hash",
    "bounced": "the sender had a report about each ({notices[delivered]:,} messages)",
    "queued": "",
    "unknown": "attempts without an answer; so many had been taken",
}


@dataclass(frozen=True, slots=True)
class Result:
    """Everything that is known when the gateway has stopped."""

    books: Books
    ledger: Mapping[str, int]
    notices: Mapping[str, int]
    sender: Sender
    sources: tuple[SourceCount, ...]
    misplaced: Mapping[str, set[str]]  # sources, and addresses that are not theirs
    receivers: tuple[Receiver, ...]
    sending: float  # seconds until the last 250
    emptying: float  # ... until nothing was queued
    left_out: Counter[str]
    own_corpus: bool  # nothing in it may be refused

    def find_problems(self) -> list[str]:
        """Return what went wrong, a sentence each; empty: nothing was lost, altered or misled."""
        return [
            *self.books.find_problems(self.ledger, self.notices),
            *self._find_refusals(),
            *self._find_detours(),
        ]

    def _find_refusals(self) -> Iterator[str]:
        if self.own_corpus:
            for reply, number in self.sender.refused.items():
                yield f"{number} of our own messages were refused: {reply}"

    def _find_detours(self) -> Iterator[str]:
        """Mail that arrived by a way that the configuration does not allow."""
        for name, addresses in self.misplaced.items():
            yield f"source {name} also sent from {', '.join(sorted(addresses))}"
        for receiver in self.receivers:
            inbox = receiver.inbox
            clear = inbox.messages - inbox.messages_over_tls
            if receiver.behaviour.starttls and clear:
                yield f"{clear} messages reached {receiver.domains[0]} in clear"


def print_result(console: Console, result: Result, problems: list[str]) -> None:
    """Print the books, and whether they close."""
    console.print()
    console.print(_draw_books(result))
    console.print()
    console.print(_draw_findings(result))
    console.print()
    if problems:
        console.print(_draw_problems(problems))
        console.print(Text("The books do not close.", style="bold red"))
    else:
        console.print(Text("The books close: nothing was lost.", style="bold green"))


def _draw_books(result: Result) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, min_width=9)
    table.add_column(no_wrap=True, min_width=7, justify="right")
    table.add_column(no_wrap=True, min_width=7, justify="right")
    table.add_column(style="dim")
    table.add_row(Text("The books", style="bold"), "ledger", "counted", "")
    for name, text in _FOUND.items():
        counted = getattr(result.books, name, None)
        explained = text.format(books=result.books, notices=result.notices)
        shown = "" if counted is None else f"{counted:,}"
        table.add_row(name, f"{result.ledger[name]:,}", shown, explained)
    return table


def _draw_findings(result: Result) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for name, text in _find(result):
        table.add_row(name, text)
    return table


def _draw_problems(problems: list[str]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold red")
    table.add_column()
    for problem in problems:
        table.add_row("wrong", problem)
    return table


def _find(result: Result) -> Iterator[tuple[str, str]]:
    books = result.books
    equal = books.copies - len(books.altered)
    yield (
        "bytes",
        f"{equal:,} of {books.copies:,} copies are what was sent, under our Received line",
    )
    yield "twice", _describe_repeats(books)
    yield "rotation", _describe_rotation(result.sources)
    yield "TLS", _describe_tls(result)
    yield "trouble", _describe_trouble(result.receivers)
    yield "time", f"{result.sending:.1f} s to accept, {result.emptying:.1f} s to empty the queue"
    if result.left_out:
        yield "left out", _list(result.left_out, "files")
    if result.sender.refused:
        yield "refused", _list(result.sender.refused, "messages")


def _describe_repeats(books: Books) -> str:
    if not books.twice:
        return "no copy arrived twice"
    return f"{books.twice} copies, where a receiver left between final dot and 250"


def _describe_rotation(sources: tuple[SourceCount, ...]) -> str:
    total = max(1, sum(source.messages for source in sources))
    weights = sum(source.weight for source in sources)
    return ", ".join(
        f"{s.name} {s.messages / total:.1%} (weight {s.weight / weights:.0%})" for s in sources
    )


def _describe_tls(result: Result) -> str:
    clear = [r.domains[0] for r in result.receivers if not r.behaviour.starttls]
    books = result.books
    return (
        f"in: all, verified; out: {books.over_tls / max(1, books.transactions):.0%}, verified; "
        f"{', '.join(clear)} has none"
    )


def _describe_trouble(receivers: tuple[Receiver, ...]) -> str:
    inboxes = [receiver.inbox for receiver in receivers]
    return (
        f"{sum(i.deferred for i in inboxes):,} temporary refusals, "
        f"{sum(i.refused for i in inboxes):,} permanent ones, "
        f"{sum(i.broken for i in inboxes):,} connections lost"
    )


def _list(reasons: Counter[str], noun: str) -> str:
    return "; ".join(f"{number} {noun}: {reason}" for reason, number in reasons.items())


def print_next_steps(console: Console, result: Result, kept: Path | None) -> None:
    """Say what a newcomer could do now."""
    program = name_program()
    if kept is None:
        example = "-c deploy/outgate.example.toml"
        steps = {
            f"{program} demo PATH": "eml files of your own through it",
            f"{program} demo --keep DIR": "keep configuration, store and logs",
            f"{program} check {example}": "a configuration to start from",
            f"{program} up {example}": "the gateway itself",
        }
    else:
        file = kept / "outgate.toml"
        steps = {
            f"{program} up -c {file}": "this gateway again; and beside it:",
            f"{program} status -c {file}": "its ledger",
            f"{program} explain -c {file} {find_example(result)}": "the story of one message",
        }
    console.print()
    console.print(Text("Next", style="bold"))
    wide = max(map(len, steps)) + 2
    is_wide = wide + max(map(len, steps.values())) + 2 <= console.width
    for command, text in steps.items():
        between = " " * (wide - len(command)) if is_wide else "\n    "
        console.print(Text.assemble(f"  {command}", (between + text, "dim")), soft_wrap=True)


def name_program() -> str:
    """Return what to type for this program: as it was called, unless the shell finds it by name."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{Path(sys.executable).name} -m workers.cli"
    found = shutil.which(called.name)
    if found and Path(found).resolve() == called.resolve():
        return called.name
    near = os.path.relpath(called)
    return str(called) if near.startswith("..") else near


def find_example(result: Result) -> str:
    """Return the id of a message that had some trouble on its way; any, if none had."""
    for sent in reversed(result.sender.sent):
        if any(recipient.endswith(b"@grey.test") for recipient in sent.recipients):
            return sent.id
    return result.sender.sent[-1].id if result.sender.sent else "ID"


def to_json(result: Result, problems: list[str], kept: Path | None) -> dict[str, object]:
    """Return the same for programs."""
    books = {
        name: len(value) if isinstance(value, list) else value
        for name, value in asdict(result.books).items()
    }
    return {
        "ok": not problems,
        "problems": problems,
        "messages": result.books.messages,
        "ledger": dict(result.ledger),
        "notices": dict(result.notices),
        "books": books,
        "sources": [asdict(source) for source in result.sources],
        "receivers": {r.domains[0]: _count_inbox(r) for r in result.receivers},
        "seconds": {"sending": result.sending, "emptying": result.emptying},
        "left_out": dict(result.left_out),
        "refused": dict(result.sender.refused),
        "kept": None if kept is None else str(kept),
    }


def _count_inbox(receiver: Receiver) -> dict[str, int]:
    inbox = receiver.inbox
    names = ("connections", "messages", "messages_over_tls", "accepted", "deferred", "refused")
    return {name: getattr(inbox, name) for name in (*names, "broken")}
