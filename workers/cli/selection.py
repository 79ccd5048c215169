"""What an operator means: options that say which deliveries, and whether a queue is among them."""

import argparse
import shlex
from dataclasses import dataclass

from relay.address import find_domain
from relay.errors import ConfigError
from relay.model import read_home
from relay.store.keys import Queue

_PLACES = ("tenant", "domain", "site", "source")


@dataclass(frozen=True, slots=True)
class Selection:
    """Everything that is given must match; what is empty stands for all."""

    tenant: str = ""
    domain: str = ""
    site: str = ""
    source: str = ""
    ids: tuple[str, ...] = ()  # of messages, or of deliveries (ID.NUMBER)

    def covers(self, queue: Queue, site: str) -> bool:
        """Tell whether a queue of that site is meant.

        By source only what is pinned to it: anything else belongs to no source before it is sent.
        """
        return (
            self.tenant in ("", queue.tenant)
            and self.domain in ("", queue.domain)
            and self.site in ("", site)
            and self.source in ("", queue.source)
        )

    def describe(self) -> dict[str, object]:
        """Return what was given, for an event."""
        places = {name: getattr(self, name) for name in _PLACES if getattr(self, name)}
        return {**places, **({"ids": list(self.ids)} if self.ids else {})}

    def spell(self) -> str:
        """Return the options that mean the same."""
        given = ((name, getattr(self, name)) for name in _PLACES)
        parts = [f"--{name} {shlex.quote(value)}" for name, value in given if value]
        return " ".join([*parts, *(f"--id {one}" for one in self.ids)]) or "--all"

    def __str__(self) -> str:
        parts = [f"{name} {getattr(self, name)}" for name in _PLACES if getattr(self, name)]
        return ", ".join([*parts, *(f"message {one}" for one in self.ids)]) or "everything"


def add_places(
    parser: argparse.ArgumentParser, source: str = "what is pinned to this [[source]]"
) -> None:
    """Add the options that name a place; ``source``: what that one means."""
    group = parser.add_argument_group("which (all that are given must match)")
    group.add_argument("--tenant", metavar="NAME", default="", help="of this [[tenant]]")
    group.add_argument("--domain", metavar="DOMAIN", default="", help="to this recipient domain")
    group.add_argument(
        "--site", metavar="NAME", default="", help="to this site, as `outgate sites` names it"
    )
    group.add_argument("--source", metavar="NAME", default="", help=source)


def add_everything(parser: argparse.ArgumentParser, text: str) -> None:
    """Add ``--all``: without another option, a command must be told that all is meant."""
    parser.add_argument("--all", action="store_true", help=text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add all options that select deliveries."""
    add_places(parser)
    parser.add_argument(
        "--id",
        metavar="ID",
        action="append",
        default=[],
        help="this message, or one delivery of it (ID.NUMBER); may be given several times",
    )
    add_everything(parser, "everything that is queued")


def read(arguments: argparse.Namespace, *, required: bool = True) -> Selection:
    """Return what was selected. Raises ConfigError when it is nothing, or makes no sense."""
    ids = tuple(_read_id(text) for text in getattr(arguments, "id", []))
    selection = Selection(
        arguments.tenant, _read_domain(arguments.domain), arguments.site, arguments.source, ids
    )
    given = bool(selection.describe())
    everything = getattr(arguments, "all", False)
    if required and not given and not everything:
        options = "--tenant, --domain, --site, --source" + (
            ", --id" if hasattr(arguments, "id") else ""
        )
        raise ConfigError([f"{arguments.command}: say which: {options}, or --all for everything"])
    return selection


def _read_domain(text: str) -> str:
    if not text:
        return ""
    domain = find_domain(b"x@" + text.encode())
    if not domain:
        raise ConfigError([f"--domain {text}: not a domain name"])
    return domain


def _read_id(text: str) -> str:
    message, _, number = text.upper().partition(".")
    try:
        read_home(message)
    except ValueError as error:
        raise ConfigError([f"--id {text}: {error}"]) from None
    if number and not number.isdecimal():
        raise ConfigError([f"--id {text}: a delivery's number stands behind the dot"])
    return f"{message}.{number}" if number else message
