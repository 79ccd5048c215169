"""``outgate replay``: send a corpus of real messages to a server, or write it without what is personal."""

import argparse
import json
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio
from rich.console import Console

from relay.config import Config, Endpoint, load
from relay.config.shapes import FIELD
from relay.config.units import parse_endpoint, parse_octets, parse_rate, parse_seconds
from relay.errors import ConfigError, StartError
from relay.net.resolver import NameNotFound, NameUnavailable, Resolver
from relay.net.tls import make_client_context
from relay.smtp.extensions import LocalProtocolError, check_word
from workers.cli.page import warn
from workers.hosts import is_address
from workers.replay.addresses import Addressing
from workers.replay.display import watch
from workers.replay.files import Reading
from workers.replay.journal import Journal
from workers.replay.line import Target
from workers.replay.pace import Pace
from workers.replay.page import make_page
from workers.replay.report import describe, is_clean, show
from workers.replay.run import Plan, Run
from workers.replay.scrub.corpus import scrub_corpus

_INTERRUPTED = 130
_MANY = 1_000  # connections
_NOTES = """\
Recipients and senders are led to test domains (ann@example.com: ann@example-com.test), the same for the
same domain each time, unless --real-recipients and --real-senders say otherwise. In directories and
archives, *.eml, *.mbox, *.mbx, Maildir and MH files are read. Ctrl-C ends it with the report so far.
Exit 0: every message was accepted for everybody."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what to send, to whom, how fast, and what is to be told."""
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", type=Path,
        help="eml, mbox, Maildir, a directory of those, or .tar, .tar.gz, .tar.zst of those",
    )  # fmt: skip
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--to",
        metavar="HOST:PORT",
        type=_make(parse_endpoint),
        help="the server that gets the mail",
    )
    where.add_argument(
        "--scrub", metavar="OUT", type=Path,
        help="send nothing: write the corpus without personal data, as a new directory, or .tar, "
        ".tar.gz, .tar.zst; sizes, structure and odd octets stay, signatures do not hold any more",
    )  # fmt: skip
    parser.add_argument(
        "--scrub-key-file", metavar="FILE", type=Path,
        help="with --scrub: a secret; the same one gives the same words again (default: at random)",
    )  # fmt: skip
    _add_addresses(parser)
    _add_pace(parser)
    _add_session(parser)
    parser.add_argument(
        "--report", metavar="FILE", type=Path, help="write the report as one HTML file"
    )
    parser.add_argument(
        "--state", metavar="FILE", type=Path,
        help="a journal: begun again with it, the replay goes on where it was cut short; what was in "
        "flight then is sent again",
    )  # fmt: skip
    parser.epilog = f"{parser.epilog}\n\n{_NOTES}"


def _add_addresses(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("addresses")
    group.add_argument(
        "--from", dest="sender", metavar="ADDRESS",
        help="the envelope's sender instead of the message's; @DOMAIN: ann=example.com@DOMAIN; "
        "'<>': the null sender",
    )  # fmt: skip
    group.add_argument(
        "--rcpt", action="append", default=[], metavar="ADDRESS",
        help="to this one instead of the message's recipients; may be given again; @DOMAIN: all of "
        "them there",
    )  # fmt: skip
    group.add_argument(
        "--real-recipients", action="store_true",
        help="to whom the messages were addressed: REAL PEOPLE may get them again",
    )  # fmt: skip
    group.add_argument(
        "--real-senders", action="store_true",
        help="from whom the messages came: REAL PEOPLE may get bounces",
    )  # fmt: skip
    group.add_argument(
        "--test-domain", default="test", metavar="DOMAIN",
        help="where addresses are led to (default: test, which is nowhere)",
    )  # fmt: skip
    group.add_argument(
        "--header-file", metavar="FILE", type=Path,
        help="put this header field (a line, NAME: VALUE) on top of each message: a tenant's secret",
    )  # fmt: skip


def _add_pace(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how fast (default: as fast as possible), and how much")
    pace = group.add_mutually_exclusive_group()
    pace.add_argument("--rate", metavar="N/s", type=_make(parse_rate), help="so many: 100/s, 500/m")
    pace.add_argument(
        "--as-recorded", action="store_true",
        help="as far apart as they came: by Received, else the mailbox, else Date, else the file's time",
    )  # fmt: skip
    group.add_argument(
        "--factor", metavar="X", type=_read_factor, help="with --as-recorded: so many times as fast"
    )
    group.add_argument("--count", metavar="N", type=_count, help="so many messages at most")
    group.add_argument(
        "--for", dest="duration", metavar="SPAN", type=_make(parse_seconds), default=math.inf,
        help="stop after this time: 30s, 10m",
    )  # fmt: skip
    group.add_argument(
        "--repeat", metavar="N", nargs="?", type=_count, const=0, default=1,
        help="send the corpus N times, or without N until --count or --for end it",
    )  # fmt: skip
    group.add_argument(
        "--connections", metavar="N", type=_count, default=20, help="side by side (default: 20)"
    )
    group.add_argument(
        "--messages-per-connection", metavar="N", type=_count, default=100, help="(default: 100)"
    )
    group.add_argument(
        "--retries", metavar="N", type=_read_natural, default=3,
        help="try again after 4xx, or a lost connection, so often (default: 3)",
    )  # fmt: skip
    group.add_argument(
        "--retry-wait", metavar="SPAN", type=_make(parse_seconds), default=1.0,
        help="before the first try again; then twice as long each time (default: 1s)",
    )  # fmt: skip


def _add_session(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("session, and reading")
    group.add_argument(
        "--tls", choices=("none", "opportunistic", "require", "verify"), default="opportunistic",
        help="STARTTLS: never; where offered (default); or nothing is sent; and with a valid certificate",
    )  # fmt: skip
    group.add_argument(
        "--tls-name", metavar="NAME", help="that the certificate must be for (default: HOST)"
    )
    group.add_argument(
        "--ca-file", metavar="FILE", default="", help="whom to trust, instead of the system's"
    )
    group.add_argument(
        "--source", metavar="ADDRESS", default="", help="the local address to send from"
    )
    group.add_argument(
        "--ehlo", metavar="NAME", default=os.uname().nodename, help="the name to say in EHLO"
    )
    group.add_argument(
        "--mbox", choices=("mboxrd", "mboxo", "none"), default="mboxrd",
        help="how mailbox files have quoted From (default: mboxrd)",
    )  # fmt: skip
    group.add_argument(
        "--max-message", metavar="SIZE", type=_make(parse_octets), default=50 << 20,
        help="leave larger ones out (default: 50MiB)",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Replay, or scrub; 0 when all was accepted. Raises ConfigError, StartError."""
    for path in arguments.paths:
        if not path.exists():
            raise StartError(f"{path}: no such file or directory")
    reading = Reading(arguments.paths, arguments.mbox, arguments.max_message)
    console = Console(stderr=True, highlight=False)
    if arguments.scrub is not None:
        return scrub_corpus(
            reading, arguments.scrub, arguments.scrub_key_file, console, arguments.count
        )
    _check(arguments)
    if arguments.real_recipients and not arguments.rcpt:
        warn("--real-recipients: whom the messages were for may get them again")
    config = load(arguments.config)
    journal = Journal(arguments.state) if arguments.state is not None else None
    try:
        address = trio.run(_find_address, config, arguments.to)
        replay = Run(_make_plan(arguments, reading, address), journal)
        interrupted = trio.run(_replay, replay, console, reading.measure())
    finally:
        if journal is not None:
            journal.close()
    _tell(arguments, replay)
    if interrupted:
        return _INTERRUPTED
    return 0 if is_clean(replay) else 1


def _check(arguments: argparse.Namespace) -> None:
    problems = []
    if arguments.factor is not None and not arguments.as_recorded:
        problems.append("--factor: only with --as-recorded")
    if arguments.scrub_key_file is not None:
        problems.append("--scrub-key-file: only with --scrub")
    if len(arguments.rcpt) > 1 and any(one.startswith("@") for one in arguments.rcpt):
        problems.append("--rcpt @DOMAIN: only one, and no addresses beside it")
    for address in [*arguments.rcpt, arguments.sender or "", arguments.ehlo]:
        try:
            check_word(address.removeprefix("<").removesuffix(">").encode(), utf8=True)
        except LocalProtocolError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError(problems)


def _make_plan(arguments: argparse.Namespace, reading: Reading, address: str) -> Plan:
    sender = arguments.sender
    factor = (arguments.factor or 1.0) if arguments.as_recorded else None
    name = arguments.tls_name or arguments.to.host
    verify = arguments.tls == "verify"
    return Plan(
        reading=reading,
        addressing=Addressing(
            None if sender is None else sender.removeprefix("<").removesuffix(">").encode(),
            tuple(one.encode() for one in arguments.rcpt),
            arguments.real_senders,
            arguments.real_recipients,
            arguments.test_domain.lower().strip("."),
        ),
        target=Target(
            address,
            arguments.to.port,
            name,
            arguments.source or ("::" if ":" in address else "0.0.0.0"),  # noqa: S104 - the kernel chooses
            arguments.ehlo.encode(),
            arguments.tls,
            make_client_context(verify=verify, ca_file=arguments.ca_file if verify else ""),
        ),
        pace=Pace(arguments.rate, factor),
        field=_read_field(arguments.header_file),
        connections=min(arguments.connections, _MANY),
        per_connection=arguments.messages_per_connection,
        retries=arguments.retries,
        wait=arguments.retry_wait,
        rounds=arguments.repeat,
        most=arguments.count,
        lasts=arguments.duration,
    )


def _read_field(path: Path | None) -> bytes:
    if path is None:
        return b""
    try:
        line = path.read_bytes().strip()
    except OSError as error:
        raise StartError(f"--header-file {path}: {error.strerror}") from error
    name, colon, value = line.partition(b":")
    if not colon or not FIELD.fullmatch(name.decode("latin-1")) or len(line.splitlines()) != 1:
        raise StartError(f"--header-file {path}: expected one line, NAME: VALUE")
    return name + b": " + value.strip() + b"\r\n"


async def _find_address(config: Config, to: Endpoint) -> str:
    """Return the server's address. Raises StartError when its name has none."""
    if is_address(to.host):
        return to.host
    if to.host == "localhost":
        return "127.0.0.1"
    try:
        found = await Resolver(config.dns).find_addresses(to.host)
    except (NameNotFound, NameUnavailable) as error:
        raise StartError(f"--to {to}: {error}") from error
    if not found.records:
        raise StartError(f"--to {to}: the name has no address")
    return found.records[0]  # IPv4, if there is one


async def _replay(replay: Run, console: Console, octets: int) -> bool:
    """Send; return whether a signal ended it. The second signal ends what is in flight, too."""
    interrupted = False

    async def heed() -> None:
        nonlocal interrupted
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                interrupted = True
                replay.stop()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(heed)
        nursery.start_soon(watch, replay, console, octets)
        await replay.run()
        nursery.cancel_scope.cancel()
    return interrupted


def _tell(arguments: argparse.Namespace, replay: Run) -> None:
    report = describe(replay)
    if arguments.json:
        print(json.dumps(report))
    else:
        show(Console(highlight=False), report)
    if arguments.report is not None:
        try:
            arguments.report.write_text(make_page(report), "utf-8")
        except OSError as error:
            raise StartError(f"--report {arguments.report}: {error.strerror}") from error
    if replay.stopped and arguments.state is None:
        warn("stopped; with --state FILE it could be gone on with")


# -- words of the command line --------------------------------------------------------------------


def _make(parse: Callable[[object], Any]) -> Callable[[str], Any]:
    """Return a type for argparse that says what was expected."""

    def read(text: str) -> Any:  # noqa: ANN401 - whatever ``parse`` makes
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def _count(text: str) -> int:
    if not text.isdecimal() or int(text[:12]) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1 on, got {text!r}")
    return int(text[:12])


def _read_natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}")
    return int(text[:4])


def _read_factor(text: str) -> float:
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0 < factor < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return factor
