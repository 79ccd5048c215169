"""The trail of this process: a chain that it alone writes.

``write`` takes an event and makes it a line, which costs two to three microseconds; ``flush``, four
times a second (relay/events.py), puts the lines into the file; ``sync``, once a second and in a
thread, has them on the disk. A sync at each flush would cost the disk four times as much, and the
loop would wait for it. What is in the file survives the end of the process, however it ends; what is
synced survives the host. Only what is synced is told to the store (beacon.py), so that a crash never
looks like a cut.

Where are the lines if the process dies? Before ``flush``: gone, at most a quarter of a second of them
(their messages are in the store with their stories). After it: in the file; half a line at its end
is dealt with by the next process (end.py).

If the file cannot be written, the lines stay in memory, and ``trouble`` says why: the ingress takes
no more mail then. It is tried again at each flush. If what is in hand writes more than 8 MiB
meanwhile, lines are left out, and a line says how many: ``missed``.

Days are those of UTC, and never go back: the clock may. A day ends at the first flush after it.
"""

import logging
import os
import time
import weakref
from binascii import hexlify
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import trio

from relay.audit import chain as chains
from relay.audit.beacon import Beacon
from relay.audit.chain import Held, find_file, hold_chain
from relay.audit.end import End, find_end, make_torn
from relay.audit.line import Head
from relay.audit.seal import Book, load_keys, make_event
from relay.config import Config
from relay.errors import StartError
from relay.events import encode_event
from relay.store.link import Link

_log = logging.getLogger("outgate.audit")

SYNC_SECONDS = 1.0
LIMIT = 8 << 20  # octets of lines that wait in memory for the disk


@dataclass(slots=True)
class _Batch:
    """Octets on their way into the file of a day."""

    day: str
    octets: bytes


class Trail:
    """Writes one chain, until ``close``."""

    def __init__(
        self,
        held: Held,
        *,
        key: bytes = b"",
        link: Link | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Go on with a chain. ``link``: where the store hears how far it is. Raises OSError."""
        self.name = held.name
        self.beacon = Beacon(held.name, link)
        self._path = held.path
        self._key = key
        self._clock = clock
        self._files = _Files(held.path)
        # The lock goes with the trail, also where nobody closes it: a command that fails.
        self._release = weakref.finalize(self, _release, held, self._files)
        self._lines: list[bytes] = []  # of this day, with their line ends
        self._octets = 0  # in memory
        self._batches: deque[_Batch] = deque()  # of days before, or tried in vain
        self._missed = 0
        self._fault = ""  # of the last write
        self._sync_fault = ""  # of the last sync; set in its thread
        self._told = ""
        self._resume(find_end(held.path))
        self.beacon.begin(self._head)

    def _resume(self, end: End) -> None:
        self._n, self._hash = end.head
        self._book = end.book
        self._day = end.day or chains.find_day(self._clock())
        if end.unended:
            self._lines.append(b"\n")
        if end.torn:
            self.write(make_torn(len(end.torn), self._clock()))
        if end.sealed:
            self._begin_day(chains.find_next(self._day))
        self._ends = chains.find_end(self._day)
        self._written = end.head

    @property
    def open_day(self) -> str:
        """The day whose lines no seal accounts for yet; "" when there are none."""
        return self._day if self._book.lines else ""

    @property
    def _head(self) -> Head:
        return Head(self._n, self._hash)

    def write(self, event: bytes) -> None:
        """Take an encoded event: a JSON object that is not empty."""
        if self._octets >= LIMIT:
            self._missed += 1
            return
        # make_line, spelt out: every event passes here.
        self._n = n = self._n + 1
        line = b'{"n":%d,"prev":"%b",%b' % (n, self._hash, event[1:])
        hashed = sha256(line).digest()
        self._hash = hexlify(hashed)
        book = self._book
        book.note_hash(hashed)
        if not book.first:
            book.first = n
        book.last = n
        self._lines.append(line + b"\n")
        self._octets += len(line)

    def flush(self) -> None:
        """Write what has gathered, and end the day when it is over."""
        if self._clock() >= self._ends:
            self._turn()
        if self._lines:
            self._gather()
        if self._batches:
            self._drain_all()
        self._report()

    def _drain_all(self) -> None:
        try:
            while self._batches:
                self._drain(self._batches[0])
                self._batches.popleft()
        except OSError as error:
            self._fault = f"cannot be written: {error.strerror}"
        else:
            self._fault = ""
            self._written = self._head
        self._octets = sum(len(batch.octets) for batch in self._batches)

    def _gather(self) -> None:
        self._batches.append(_Batch(self._day, b"".join(self._lines)))
        self._lines.clear()

    def _drain(self, batch: _Batch) -> None:
        file = self._files.open(batch.day)
        while batch.octets:
            batch.octets = batch.octets[os.write(file, batch.octets) :]

    def _turn(self) -> None:
        """The day is over: seal it, if there was anything."""
        today = chains.find_day(self._clock())
        if self._book.lines:
            seal = self._book.make_seal(self.name, self._day, time=self._clock(), key=self._key)
            # Not the account of the day that it closes, and not to be left out for want of room.
            octets, self._octets = self._octets, 0
            self.write(make_event(seal))
            self._octets += octets
            self._gather()
            self.beacon.note_seal(self._day, self._head)
        self._begin_day(today)

    def _begin_day(self, day: str) -> None:
        self._day = day
        self._ends = chains.find_end(day)
        self._book = Book()

    # -- trouble and the disk -----------------------------------------------------------------

    @property
    def trouble(self) -> str:
        """Why lines do not get to the disk, "" when all is well."""
        fault = self._fault or self._sync_fault
        return f"the audit trail in {self._path} {fault}" if fault else ""

    def _report(self) -> None:
        """Say once that there is trouble, and that it is over: the trail itself says so, too."""
        told, self._told = self._told, self.trouble
        if self._told and not told:
            _log.error("%s; no mail is accepted until it can", self._told)
        elif told and not self._told:
            _log.warning("the audit trail in %s can be written again", self._path)
        if not self._told and (told or self._missed):
            missed, self._missed = self._missed, 0
            # What the kernel could not sync it may have forgotten, however well the next sync goes.
            event = {"event": "missed", "time": self._clock(), "lines": missed, "text": told}
            self.write(encode_event(event))

    def sync(self) -> None:
        """Have on the disk what was flushed. Takes its time: call it in a thread."""
        written = self._written
        try:
            if self._files.sync():
                _log.error("the audit trail's file in %s was taken away", self._path)
        except OSError as error:
            self._sync_fault = f"cannot be synced: {error.strerror}"
        else:
            self._sync_fault = ""
            self.beacon.note(written)

    async def run(self) -> None:
        """Sync from time to time, and tell the store. Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.beacon.run)
            while True:
                await trio.sleep(SYNC_SECONDS)
                # Not to be left alone: it would go on beside whoever closes us.
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(self.sync)

    def close(self) -> None:
        """Write and sync the last, and give the chain up. Nothing may be written any more."""
        self.flush()
        self.flush()  # what the first had to say about trouble
        self.sync()
        self.beacon.send_last()
        if self._octets or self._missed:
            _log.error("%s: what it should have held of the last events is lost", self._path)
        self._release()


class _Files:
    """The file of the present day, and those that are not synced yet.

    ``open`` is called on the loop, ``sync`` in a thread: what one hands to the other goes through
    ``_done``, which one appends to and the other takes from.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._day = ""
        self._file = -1
        self._done: deque[int] = deque()  # to be synced and closed

    def open(self, day: str) -> int:
        """Return the descriptor of a day's file. Raises OSError."""
        if day != self._day or self._file < 0:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            file = os.open(find_file(self._path, day), flags, 0o640)
            if self._file >= 0:
                self._done.append(self._file)
            # The directory, once: for the file's name in it.
            self._done.append(os.open(self._path, os.O_RDONLY | os.O_CLOEXEC))
            self._day, self._file = day, file
        return self._file

    def sync(self) -> bool:
        """Sync everything; True when the present file is not the one of its name any more.

        Then the next lines go into a new one. Raises OSError.
        """
        while self._done:
            os.fsync(self._done[0])
            os.close(self._done.popleft())
        file = self._file
        if file < 0:
            return False
        os.fsync(file)
        if self._is_there(file):
            return False
        self._done.append(file)
        self._file = -1
        return True

    def _is_there(self, file: int) -> bool:
        try:
            return os.path.samestat(os.stat(find_file(self._path, self._day)), os.fstat(file))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Close all of them."""
        for file in (*self._done, self._file):
            if file >= 0:
                os.close(file)
        self._done.clear()
        self._file = -1


def _release(held: Held, files: _Files) -> None:
    files.close()
    held.release()


def open_trail(config: Config, role: str, link: Link | None = None) -> Trail | None:
    """Go on with the chain of this process; None when there is no ``audit.directory``.

    ``role``: "ingress", "worker" or "operator". Raises StartError.
    """
    audit = config.audit
    if not audit.directory:
        return None
    keys = load_keys(audit.key_file)
    trail = continue_chain(hold_chain(Path(audit.directory), role), keys, link)
    # What the process before left undone; and to find out now whether it can be written at all.
    trail.flush()
    trail.sync()
    if trail.trouble:
        trouble = trail.trouble
        trail.close()
        raise StartError(f"{trouble}; free some space, or correct audit.directory")
    return trail


def continue_chain(held: Held, keys: tuple[bytes, ...], link: Link | None = None) -> Trail:
    """Go on with a chain that is ours. Raises StartError."""
    try:
        return Trail(held, key=keys[0] if keys else b"", link=link)
    except OSError as error:
        held.release()
        raise StartError(f"cannot read the audit trail in {held.path}: {error}") from error
