"""An operator's decision: who, why, and the record of it in the event log and in the store."""

import argparse
import getpass
import os
import socket
import time

from relay.config import Config
from relay.errors import StartError
from relay.events import EventLog, encode_event
from relay.store.link import Link
from relay.store.suspension import Suspensions


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


class Decision:
    """One command of an operator. Made before anything is done: a log that cannot be written to
    is a reason not to begin. Raises StartError.
    """

    def __init__(self, config: Config, arguments: argparse.Namespace) -> None:
        self.who = find_who(arguments)
        self.why: str = arguments.why
        self.events = _open_log(config)

    def make_event(self, name: str, **facts: object) -> bytes:
        """Return an event that says who and why."""
        event = {"time": time.time(), "event": name, **facts, "who": self.who, "why": self.why}
        return encode_event(event)

    async def record(self, link: Link, name: str, **facts: object) -> None:
        """Write an event to the log, and keep it among the decisions in the store."""
        event = self.make_event(name, **facts)
        self.events.write(event)
        self.events.flush()
        await Suspensions(link).record(event)


def _open_log(config: Config) -> EventLog:
    # Where the log is the services' standard output, ours is for what we have to say.
    path = os.devnull if config.log.events == "stdout" else config.log.events
    try:
        return EventLog(path)
    except OSError as error:
        raise StartError(
            f"cannot write events to {path}: {error.strerror}; nothing was done. "
            "Run it as the user of the services"
        ) from error
