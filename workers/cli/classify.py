"""``outgate classify``: what replies of receivers mean to us, and by which rule."""

import argparse
import io
import itertools
import json
import sys
from collections.abc import Iterator
from typing import IO

from workers.cli.page import add_row, make_table, open_console, warn
from workers.replies.classifier import has_rules, read_reply
from workers.replies.label import Reading
from workers.replies.transcript import Said, read_replies

_MAX_LINE = 64 * 1024  # characters; what is longer is cut
_FORM = """\
Reads replies from standard input, a line each: CODE [ENHANCED CODE] TEXT. The lines of one reply may
follow each other as they came (550- ... 550 ...), or stand in one line with \\n between them; the code,
or both codes, may be missing. Prints what it is about (label), whose it is (blame), what the gateway
does about it (action), and the rule that decided."""
_PAGE = 500  # replies in one table: whoever pipes a year of logs gets several


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the provider."""
    parser.add_argument(
        "--provider",
        metavar="NAME",
        default="",
        help="whose replies they are: the name of a site, such as google or outlook",
    )
    parser.epilog = f"{parser.epilog}\n\n{_FORM}"


def run(arguments: argparse.Namespace) -> int:
    """Read replies and print what they mean; exit 1 when there were none."""
    if arguments.provider and not has_rules(arguments.provider):
        warn(f"no rules for {arguments.provider} alone: those for all hold")
    replies = read_replies(_read_lines(sys.stdin))
    print_them = _print_json if arguments.json else _print_tables
    if print_them(replies, arguments.provider):
        return 0
    warn("no replies on standard input: a line each, such as 550 5.1.1 no such user")
    return 1


def _read_lines(stream: IO[str]) -> Iterator[str]:
    """Yield lines, each as soon as it is there, however long they are and whatever octets they hold."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding="utf-8", errors="replace")
    while line := stream.readline(_MAX_LINE):
        yield line
        while line and not line.endswith("\n"):
            line = stream.readline(_MAX_LINE)


def _read(said: Said, provider: str) -> Reading:
    return read_reply(said.code, said.status, said.text, provider=provider)


def _print_json(replies: Iterator[Said], provider: str) -> int:
    """Print an object a line, at once; return how many."""
    count = 0
    for said in replies:
        reading = _read(said, provider)
        found = {
            "code": said.code,
            "status": said.status,
            "text": said.text,
            "label": reading.label,
            "blame": reading.blame.value,
            "action": reading.action,
            "permanent": reading.permanent,
            "rule": reading.rule,
            "rest": reading.rest,
        }
        print(json.dumps(found), flush=True)
        count += 1
    return count


def _print_tables(replies: Iterator[Said], provider: str) -> int:
    """Print a table; return the number of replies."""
    console, count = open_console(), 0
    while page := list(itertools.islice(replies, _PAGE)):
        table = make_table("label", "blame", "action", "rule", last="reply")
        for said in page:
            reading = _read(said, provider)
            code = str(said.code) if said.code else ""
            written = " ".join(part for part in (code, said.status, said.text) if part)
            add_row(
                table, reading.label, reading.blame.value, reading.action, reading.rule, written
            )
        console.print(table)
        count += len(page)
    return count
