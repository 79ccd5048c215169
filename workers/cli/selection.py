"""Options that say which deliveries an operator means."""

import argparse

from relay.errors import ConfigError
from workers.views.selection import Selection, make_selection


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
    ids = getattr(arguments, "id", [])
    places = (arguments.tenant, arguments.domain, arguments.site, arguments.source)
    try:
        selection = make_selection(*places, ids)
    except ValueError as error:
        raise ConfigError([f"--{error}"]) from None
    given = bool(selection.describe())
    everything = getattr(arguments, "all", False)
    if required and not given and not everything:
        options = "--tenant, --domain, --site, --source" + (
            ", --id" if hasattr(arguments, "id") else ""
        )
        raise ConfigError([f"{arguments.command}: say which: {options}, or --all for everything"])
    return selection
