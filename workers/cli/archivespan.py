"""Which messages of the archive are meant: tenant and days, and ids, as options say them."""

import argparse
import datetime as dt

from relay.archive.name import find_place
from relay.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--tenant``, ``--from`` and ``--to``."""
    parser.add_argument("--tenant", metavar="NAME", default="", help="of this tenant")
    days = "day (YYYY-MM-DD, UTC)"
    parser.add_argument(
        "--from", dest="first", metavar="DATE", default="", help=f"from this {days}"
    )
    parser.add_argument("--to", dest="last", metavar="DATE", default="", help=f"to this {days}")


def read_days(arguments: argparse.Namespace) -> tuple[str, str]:
    """Return the first day and the last one, "" where none is given. Raises ConfigError."""
    first = _read_day("--from", arguments.first)
    last = _read_day("--to", arguments.last)
    if first and last and last < first:
        raise ConfigError([f"--to {last}: is before --from {first}"])
    return first, last


def _read_day(option: str, text: str) -> str:
    if not text:
        return ""
    try:
        # Written out again: days are compared as texts.
        return dt.datetime.strptime(text, "%Y-%m-%d").date().isoformat()
    except ValueError:
        raise ConfigError([f"{option} {text}: expected a day, as in 2026-07-31"]) from None


def read_id(text: str) -> str:
    """Return a message id, also of a delivery's (ID.NUMBER). Raises ConfigError."""
    message_id = text.upper().partition(".")[0]
    try:
        find_place("", message_id)
    except ValueError as error:
        raise ConfigError([f"{text}: {error}"]) from None
    return message_id


def check_tenant(tenant: str) -> str:
    """Return a tenant's name if it can be one: it becomes part of a path. Raises ConfigError."""
    if tenant.startswith(".") or "/" in tenant or "\0" in tenant:
        raise ConfigError([f"--tenant {tenant}: no tenant has such a name"])
    return tenant
