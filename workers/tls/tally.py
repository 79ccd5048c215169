"""The tally: how TLS to receivers went, counted for their reports (RFC 8460).

Deliveries call ``note``, which costs a microsecond. Once a minute, off their way, what has gathered is
added to the store: for domains that publish where they want reports, and for no others. All of it is
bounded, and nothing of it matters to mail: what cannot be asked or stored is kept for the next time,
until its day's report may be on its way; then it is dropped, and so is what a process had not yet
stored when it died.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import trio

from relay.errors import StoreError, StoreUnavailable
from relay.net.resolver import Resolver
from relay.store.keys import find_shard
from relay.store.tlsrpt import CHUNK, DAY, PolicyType, Session, Sessions
from workers.tls.guard import Failing
from workers.tls.rua import Audience
from workers.tls.several import do_several

MAX_KINDS = 20_000  # of sessions, between two flushes
_MAX_PLAIN = 5_000  # ... and so many more without details
# Of one domain on one day, from one process: whoever shows another certificate, or answers another
# record, to each of our sessions must not take the others' place.
MAX_DETAILS = 200
LATE = 600.0  # s after midnight: until then the day before may still be added to
_MAX_TEXT = 160
_MAX_STRINGS, _MAX_STRING = 20, 300  # of a policy; it stands in each of its fields
_FLUSH = 60.0  # s
_ASK_FOR = 30.0  # s, for the look-ups of one flush
_LAST = 3.0  # s, for the last flush of a process that ends
_LOOK_UPS = 10  # at a time

_log = logging.getLogger("outgate.worker")

_Key = tuple[
    int, str, PolicyType, tuple[str, ...], tuple[str, ...], str, str, Failing, str, str
]  # the day, and what a Session has


class Tally:
    """Of one worker process."""

    def __init__(
        self, sessions: Sessions, resolver: Resolver, *, now: Callable[[], float] = time.time
    ) -> None:
        """``now``: seconds since 1970."""
        self._sessions = sessions
        self._audience = Audience(resolver)
        self._now = now
        self._counts: dict[_Key, int] = {}
        self._details: dict[tuple[int, str], set[int]] = {}
        self._lost = 0

    def __len__(self) -> int:
        return len(self._counts)

    def note(
        self,
        domain: str,
        kind: PolicyType,
        strings: tuple[str, ...] = (),
        mx_pattern: tuple[str, ...] = (),
        host: str = "",
        source_address: str = "",
        failing: Failing = "",
        text: str = "",
        address: str = "",
    ) -> None:
        """Count one TLS session with a host of a recipient domain, or the failure to get one.

        ``strings``: the lines of an STS policy, or the TLSA records, as RFC 8460 §4.5 has them;
        ``mx_pattern``: the policy's MX patterns, or the TLSA base domain. ``source_address``,
        ``address``: ours and the host's. ``failing``: "" is a success.
        """
        if self._audience.wants(domain) is False:  # as most
            return
        if not failing:  # reports have nothing more of a success
            host = source_address = text = address = ""
        key: _Key = (
            *(int(self._now() // DAY), domain, kind, strings, mx_pattern),
            *(host, source_address, failing, text[:_MAX_TEXT], address),
        )
        self._add(key, 1)

    def _add(self, key: _Key, count: int) -> None:
        counts = self._counts
        if key in counts:
            counts[key] += count
        elif len(counts) < MAX_KINDS:
            counts[key] = count
        else:
            plain: _Key = (*key[:3], (), (), "", "", key[7], "", "")
            if plain in counts or len(counts) < MAX_KINDS + _MAX_PLAIN:
                counts[plain] = counts.get(plain, 0) + count
            else:
                self._lost += count

    async def run(self) -> None:
        """Flush every minute, until cancelled; then once more."""
        try:
            while True:
                await trio.sleep(_FLUSH)
                await self._flush_quietly()
        finally:
            with trio.move_on_after(_LAST, shield=True):
                await self._flush_quietly()

    async def _flush_quietly(self) -> None:
        try:
            await self.flush()
        except (StoreUnavailable, StoreError) as error:
            _log.warning("TLS sessions are not counted yet: %s", error)
        except Exception:
            _log.exception("TLS sessions are not counted")

    async def flush(self) -> None:
        """Put what has gathered into the store. Raises StoreUnavailable, StoreError.

        What could not be put is kept for the next time, also when this is cancelled.
        """
        counts, self._counts = self._counts, {}
        try:
            await self._ask(counts)
            self._drop_late(counts)
            groups: dict[tuple[int, int], dict[Session, list[_Key]]] = {}
            for key in self._choose(counts):
                session = self._make_session(key)
                group = groups.setdefault((key[0], find_shard(key[1])), {})
                group.setdefault(session, []).append(key)
            for (day, shard), group in groups.items():
                await self._store(day, shard, group, counts)
        finally:
            for key, count in counts.items():
                self._add(key, count)
            self._say_lost()

    async def _ask(self, counts: dict[_Key, int]) -> None:
        """Learn which domains want reports."""
        domains = dict.fromkeys(key[1] for key in counts)
        with trio.move_on_after(_ASK_FOR):
            await do_several(self._audience.learn, domains, at_a_time=_LOOK_UPS)

    def _choose(self, counts: dict[_Key, int]) -> Iterator[_Key]:
        """Yield what is to be stored, and forget what is not; the rest is not known yet."""
        for key in list(counts):
            wants = self._audience.wants(key[1])
            if wants:
                yield key
            elif wants is False:
                del counts[key]

    def _drop_late(self, counts: dict[_Key, int]) -> None:
        """Forget what was noted too long ago to come into its day's report."""
        oldest = int((self._now() - LATE) // DAY)
        late = [key for key in counts if key[0] < oldest]
        if late:
            lost = sum(counts.pop(key) for key in late)
            _log.warning("%d TLS sessions were not counted in time for the day's reports", lost)
        self._details = {key: told for key, told in self._details.items() if key[0] >= oldest}

    def _make_session(self, key: _Key) -> Session:
        """Return what is stored of a kind of session: with details, as long as there is room."""
        day, domain, kind, strings, patterns, host, source, failing, text, address = key
        session = Session(
            *(domain, kind, _cut(strings), _cut(patterns)),
            *(host[:_MAX_STRING], source, failing, text, address),
        )
        told = self._details.setdefault((day, domain), set())
        mark = hash(session)
        if mark not in told and len(told) >= MAX_DETAILS:
            return Session(domain, kind, failing=failing)
        told.add(mark)
        return session

    async def _store(
        self, day: int, shard: int, group: dict[Session, list[_Key]], counts: dict[_Key, int]
    ) -> None:
        """Add one shard's, piece by piece; what is stored is taken out of ``counts``."""
        left = iter(group.items())
        while piece := dict(islice(left, CHUNK)):
            keys = [key for found in piece.values() for key in found]
            numbers = {s: sum(counts[key] for key in found) for s, found in piece.items()}
            try:
                lost = await self._sessions.add(day, shard, numbers)
                self._lost += lost  # after the wait: += takes what was there before it
            except StoreUnavailable as error:
                if error.executed:  # perhaps; better too few than twice
                    _forget(keys, counts)
                raise
            _forget(keys, counts)

    def _say_lost(self) -> None:
        if self._lost:
            _log.warning("%d TLS sessions are in no report: there are too many kinds", self._lost)
            self._lost = 0


def _forget(keys: Sequence[_Key], counts: dict[_Key, int]) -> None:
    for key in keys:
        del counts[key]


def _cut(strings: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(string[:_MAX_STRING] for string in strings[:_MAX_STRINGS])
