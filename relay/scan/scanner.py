"""A scanner as rules see it: a question, and an answer or ScanFailed, within a known time.

Around the program that answers (``clamd.py``, ``rspamd.py``) stand the limits: what is too large is
not shown, so many are asked about at a time, everything together takes ``timeout`` at most, and
who does not answer is left alone for a while (``breaker.py``).

A message is in memory while it is scanned, and has not been accepted: if we die, it is the sender's.
"""

import logging
import time
from typing import Literal, Protocol

import trio

from relay.config import Config, policy
from relay.errors import ConfigError
from relay.events import EventLog, encode_event
from relay.net.neighbour import parse_neighbour
from relay.scan.breaker import Attempt, Breaker
from relay.scan.clamd import Clamd
from relay.scan.inquiry import Inquiry, Scan, ScanFailed, ScanRefused
from relay.scan.rspamd import Rspamd

_log = logging.getLogger("outgate.scan")

# Scans at a time, of one scanner and process. clamd has 10 threads unless told otherwise, rspamd a
# process for each core: more would wait there, where nobody counts how long.
PLACES = 8


class _CutShort(ScanFailed):
    """Most of the time went by waiting for a place: the scanner is busy, and may be well."""


class Engine(Protocol):
    """A program that scans. Any number of tasks may ask at the same time."""

    async def ask(self, inquiry: Inquiry) -> Scan:
        """Show a message. Raises ScanFailed; the deadline is the caller's."""

    async def aclose(self) -> None:
        """Close what is kept open."""


class Scanner:
    """One ``[[scanner]]`` of one process."""

    def __init__(self, settings: policy.Scanner, engine: Engine, events: EventLog) -> None:
        self.name = settings.name
        self.on_failure: Literal["accept", "defer"] = settings.on_failure
        self._settings = settings
        self._engine = engine
        self._events = events
        self._places = trio.Semaphore(PLACES)
        self._breaker = Breaker()
        self._trouble = ""  # the last failure

    async def scan(self, inquiry: Inquiry) -> Scan:
        """Have a message looked at. Raises ScanFailed, after ``timeout`` at the latest."""
        size, most = len(inquiry.message), self._settings.max_message
        if size > most:
            raise self._fail(f"{size} octets are larger than scanner.max_message ({most})")
        if not self._breaker.is_passable:  # do not wait for a place in order to hear that
            raise self._turn_away()
        deadline = trio.current_time() + self._settings.timeout
        await self._take_place(deadline)
        try:
            return await self._attempt(inquiry, deadline)
        finally:
            self._places.release()

    async def aclose(self) -> None:
        """Close what is kept open. Scans that go on fail."""
        await self._engine.aclose()

    async def _take_place(self, deadline: float) -> None:
        """Wait for our turn. That it does not come is no failure of those who have theirs."""
        with trio.move_on_at(deadline) as waiting:
            await self._places.acquire()
        if waiting.cancelled_caught:
            seconds = self._settings.timeout
            raise self._fail(f"busy: {PLACES} other messages took longer than {seconds:g} s")

    async def _attempt(self, inquiry: Inquiry, deadline: float) -> Scan:
        attempt = self._breaker.begin()
        if attempt is None:
            raise self._turn_away()
        try:
            scan = await self._ask(inquiry, deadline)
        except ScanRefused as error:  # an answer, too
            self._note_answer()
            raise self._fail(str(error)) from error
        except _CutShort as error:
            self._breaker.abandon(attempt)
            raise self._fail(str(error)) from error
        except ScanFailed as error:
            self._note_failure(attempt, str(error))
            raise self._fail(str(error)) from error
        except BaseException:
            # The client has gone, or we stop: nothing is known. If this was the one attempt of a
            # breaker that is half open, the next message makes it.
            self._breaker.abandon(attempt)
            raise
        self._note_answer()
        return scan

    async def _ask(self, inquiry: Inquiry, deadline: float) -> Scan:
        timeout = self._settings.timeout
        is_short = deadline - trio.current_time() < timeout / 2
        try:
            with trio.fail_at(deadline):
                return await self._engine.ask(inquiry)
        except trio.TooSlowError:
            kind = _CutShort if is_short else ScanFailed
            raise kind(f"no answer within {timeout:g} s") from None

    # -- what it is like ----------------------------------------------------------------------

    def _note_answer(self) -> None:
        if self._breaker.succeed():
            text = f"{self._settings.address} answers again"
            self._tell("scanner-up", text)
            _log.warning("scanner %s: %s", self.name, text)

    def _note_failure(self, attempt: Attempt, text: str) -> None:
        self._trouble = text
        if self._breaker.fail(attempt):
            self._tell("scanner-down", f"{self._settings.address}: {text}")
            _log.error(
                "scanner %s (%s) does not work: %s. It is asked again from time to time; until it "
                "answers, %s",
                self.name,
                self._settings.address,
                text,
                "its rules do not match"
                if self.on_failure == "accept"
                else "messages are deferred",
            )

    def _tell(self, event: str, text: str) -> None:
        record = {"time": time.time(), "event": event, "name": self.name, "text": text}
        self._events.write(encode_event(record))

    def _turn_away(self) -> ScanFailed:
        return self._fail(f"not asked, because it does not work: {self._trouble}")

    def _fail(self, text: str) -> ScanFailed:
        return ScanFailed(f"scanner {self.name} ({self._settings.address}): {text}")


def make_scanners(config: Config, events: EventLog) -> dict[str, Scanner]:
    """Return the scanners of a process, by name. Raises ConfigError. Close each in the end."""
    return {one.name: Scanner(one, _make_engine(one), events) for one in config.scanner}


def _make_engine(settings: policy.Scanner) -> Engine:
    try:
        place = parse_neighbour(settings.address)
    except ValueError as error:
        raise ConfigError([f"scanner {settings.name!r}: address: {error}"]) from None
    if settings.kind == "clamd":
        return Clamd(place)
    return Rspamd(place, connections=PLACES)
