"""Options of an operator's decision: who, and why; and the decision that they are."""

import argparse
import getpass
import os
import socket

from relay.config import Config
from workers.operations.decision import Decision

_NO_PART = frozenset(("command", "config", "json", "who", "why"))  # of what is asked for


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--why`` and ``--who``."""
    group = parser.add_argument_group("for the record")
    group.add_argument("--why", metavar="TEXT", default="", help="the reason")
    group.add_argument("--who", metavar="NAME", default="", help="default: the user, @ this host")


def find_who(arguments: argparse.Namespace) -> str:
    """Return who decides: ``--who``, else who called sudo, else the user."""
    given: str = arguments.who
    if given:
        return given
    try:
        user = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def decide(config: Config, arguments: argparse.Namespace) -> Decision:
    """Return the decision that a command is; from here on it is on the record. Raises StartError."""
    asked = {
        name: value if isinstance(value, int | float | list) else str(value)
        for name, value in vars(arguments).items()
        if value and name not in _NO_PART
    }
    command = getattr(arguments, "command", "")
    return Decision(config, command, asked, who=find_who(arguments), why=arguments.why)
