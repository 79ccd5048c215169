"""An operator's decision: who, why, and the record of it: in the event log, in the store, and in the
audit trail, where the command itself stands before anything is done.
"""

import contextlib
import os
import time
from collections.abc import Mapping
from typing import Self

import trio

from relay.audit.chain import OPERATOR
from relay.audit.trail import Trail, open_trail
from relay.config import Config
from relay.errors import StartError, StoreUnavailable
from relay.events import EventLog, encode_event
from relay.store.keys import EVENTS_CHANNEL
from relay.store.link import Link
from relay.store.suspension import Suspensions


class _Told:
    """A Publisher (relay/events.py) for who has no task of its own: what is written is told at once.

    Nobody waits for it, and what cannot be told is not: who listens looks at the story.
    """

    def __init__(self) -> None:
        self.link: Link | None = None

    def offer(self, lines: bytes) -> None:
        """Tell whoever listens just now."""
        if self.link is not None:
            with contextlib.suppress(StoreUnavailable):
                self.link.send("PUBLISH", EVENTS_CHANNEL, lines)

    async def run(self) -> None:
        """Nothing is left to be told later."""

    async def finish(self) -> None:
        """Nothing is left."""


class Decision:
    """One command of an operator. Made before anything is done: a log or a trail that cannot be
    written to is a reason not to begin. Raises StartError.
    """

    def __init__(
        self, config: Config, command: str, asked: Mapping[str, object], *, who: str, why: str
    ) -> None:
        """``asked``: what the command was given, for the trail."""
        self.who = who
        self.why = why
        self._trail = _open_trail(config)
        self._told = _Told()
        self.events = _open_log(config, self._trail, self._told)
        if self._trail is not None:
            self._begin(self._trail, command, asked)

    def _begin(self, trail: Trail, command: str, asked: Mapping[str, object]) -> None:
        """Have the command on the disk: whatever becomes of it, that it was given stands there."""
        trail.write(self.make_event("command", command=command, asked=asked))
        trail.flush()
        trail.sync()
        if trail.trouble:
            raise StartError(f"{trail.trouble}; nothing was done")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self.close)

    def close(self) -> None:
        """Write what is left, and let go of log and trail: for who makes many decisions."""
        self.events.close()

    def tell(self, link: Link) -> None:
        """Have events told as they are written, over this link, to who listens for them."""
        self._told.link = link

    def make_event(self, name: str, **facts: object) -> bytes:
        """Return an event that says who and why."""
        event = {"time": time.time(), "event": name, **facts, "who": self.who, "why": self.why}
        return encode_event(event)

    def write(self, event: bytes) -> None:
        """Write an event, and have it on the disk. Raises StartError when the trail cannot.

        Blocks: for commands that do nothing else meanwhile.
        """
        self.events.write(event)
        self.events.flush()
        if self._trail is not None:
            self._trail.sync()
        if self.events.trouble:
            raise StartError(self.events.trouble)

    async def record(self, link: Link, name: str, **facts: object) -> None:
        """Write an event to the log, and keep it among the decisions in the store."""
        self.tell(link)
        event = self.make_event(name, **facts)
        self.events.write(event)
        self.events.flush()
        if self._trail is not None:
            await trio.to_thread.run_sync(self._trail.sync)
        await Suspensions(link).record(event)
        if self._trail is not None:
            await self._trail.beacon.tell(link)

    async def publish(self, link: Link) -> None:
        """Have the trail on the disk, and tell the store how far it is."""
        if self._trail is not None:
            await trio.to_thread.run_sync(self._trail.sync)
            await self._trail.beacon.tell(link)


def _open_trail(config: Config) -> Trail | None:
    try:
        return open_trail(config, OPERATOR)
    except StartError as error:
        raise StartError(
            f"{error}; nothing was done. Run it as the user of the services"
        ) from error


def _open_log(config: Config, trail: Trail | None, told: _Told) -> EventLog:
    # Where the log is the services' standard output, ours is for what we have to say.
    path = os.devnull if config.log.events == "stdout" else config.log.events
    try:
        return EventLog(path, trail, told)
    except OSError as error:
        raise StartError(
            f"cannot write events to {path}: {error.strerror}; nothing was done. "
            "Run it as the user of the services"
        ) from error
