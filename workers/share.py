"""What tenants do to the pool's reputation, as one worker process counts and sees it.

Outcomes are counted in memory, added in the store from time to time (relay/store/share.py), and what
follows is mirrored here: a tenant that is slowed has another rate beside its own, and the mail of one
that is held waits, our notices in its queues included. Nothing of it is bounced for that.

What counts as tried is what a host decided: a recipient that it took or refused for good. Who is put
off is tried again, and would count each time; but what is refused as spam or malware for now counts,
too, for the host has seen it.

Whoever's call changed something in the store tells of it. If it dies in between, nobody does, and the
next look at the tenant still says what holds.
"""

import logging
import time
from collections.abc import Mapping, Sequence

import trio

from relay.config import Config, Rate
from relay.errors import StoreError, StoreUnavailable
from relay.events import EventLog, encode_event
from relay.model import Disposition, Outcome
from relay.store.link import Link
from relay.store.share import NONE, Counts, Shares, State, batch

_log = logging.getLogger("outgate.worker")

_EVERY = 3.0  # s
_EVENTS = {"slow": "tenant-slowed", "hold": "tenant-held", "": "tenant-released"}
_UNKNOWN = "mailbox_unknown"
_CONTENT = ("content_spam", "content_malware")
_NOTHING = State()
_TAKEN = Counts(tried=1)
_NOBODY = Counts(tried=1, unknown=1)
_REFUSED = Counts(tried=1, content=1)
_COMPLAINT = Counts(complaints=1)
_LATE = Counts(unknown=1)  # it was tried, and counted as taken


class TenantShares:
    """Of one worker process. Without ``reputation.enabled`` nothing is counted, and nothing follows."""

    def __init__(self, config: Config, link: Link, events: EventLog) -> None:
        self._settings = config.reputation.tenant
        self._shares = Shares(link, self._settings)
        self._events = events
        self._is_on = config.reputation.enabled
        self._names = [tenant.name for tenant in config.tenant]
        self._counted: dict[str, list[int]] = {}  # as in Counts, and not added yet
        self._states: dict[str, State] = {}

    def note(self, tenant: str, outcome: Outcome) -> None:
        """Count what one recipient got. Not for our own notices: the tenant has not written them."""
        self._count(tenant, weigh(outcome))

    def note_signal(self, tenant: str, *, complaint: bool) -> None:
        """Count what came back later: a complaint, or a bounce of what a host had taken."""
        self._count(tenant, _COMPLAINT if complaint else _LATE)

    def _count(self, tenant: str, counts: Counts) -> None:
        if counts is NONE or not self._is_on:
            return
        sums = self._counted.get(tenant)
        if sums is None:
            self._counted[tenant] = list(counts)
            return
        for place, count in enumerate(counts):
            sums[place] += count

    def state(self, tenant: str) -> State:
        """Return how a tenant stands, as far as we know."""
        return self._states.get(tenant, _NOTHING)

    def find_rates(self, tenant: str, own: Sequence[Rate]) -> tuple[Rate, ...]:
        """Return the rates that a tenant's deliveries keep to: its own, and what slows it."""
        if self.state(tenant).state != "slow":
            return tuple(own)
        return slow_down(own, self._settings.slow_to.windows)

    async def run(self) -> None:
        """Add what gathers, until cancelled."""
        while True:
            await trio.sleep(_EVERY)
            await self.finish()

    async def finish(self) -> None:
        """Add what has gathered; if the store does not answer, say so."""
        try:
            await self.flush()
        except (StoreUnavailable, StoreError) as error:
            _log.warning("not counted what hosts say of tenants: %s", error)

    async def flush(self) -> None:
        """Add what was counted, and tell of what changed by it.

        Raises StoreUnavailable and StoreError. What may have been added is not added again: a tenant
        must not be held for what was counted twice.
        """
        counted, self._counted = self._counted, {}
        for names in batch(list(counted)):
            counts = {name: Counts(*counted.pop(name)) for name in names}
            try:
                states = await self._shares.add_all(counts)
            except StoreUnavailable as error:
                self._take_back(counted)
                if not error.executed:
                    self._take_back(counts)
                raise
            for name, state in states.items():
                self._see(name, state)

    def _take_back(self, counted: Mapping[str, Sequence[int]]) -> None:
        for name, sums in counted.items():
            self._count(name, Counts(*sums))

    async def read(self) -> None:
        """Mirror how all tenants stand. Raises StoreUnavailable and StoreError."""
        if self._is_on:
            names = dict.fromkeys((*self._names, *self._states))
            for tenant, state in (await self._shares.settle(names)).items():
                self._see(tenant, state)

    def _see(self, tenant: str, state: State) -> None:
        if state.state:
            self._states[tenant] = state
        else:
            self._states.pop(tenant, None)
        if state.changed:
            event = {
                "time": time.time(),
                "event": _EVENTS[state.state],
                "tenant": tenant,
                "reason": state.reason,
            }
            self._events.write(encode_event(event))


def weigh(outcome: Outcome) -> Counts:
    """Return what one recipient's outcome counts for; NONE: nothing, no host has decided."""
    if not outcome.code:
        return NONE  # there was no reply, or the host was not asked at all
    if outcome.label in _CONTENT:
        return _REFUSED
    if outcome.disposition is Disposition.DEFERRED:
        return NONE
    return _NOBODY if outcome.label == _UNKNOWN else _TAKEN


def slow_down(own: Sequence[Rate], slow: Sequence[Rate]) -> tuple[Rate, ...]:
    """Return the rates that keep to both. A meter has one for each time (scripts/gate/_prelude.lua)."""
    lowest: dict[int, Rate] = {}
    for rate in (*own, *slow):
        other = lowest.get(rate.seconds, rate)
        count, burst = min(rate.count, other.count), min(rate.burst, other.burst)
        lowest[rate.seconds] = Rate(count, rate.seconds, burst)
    return tuple(lowest[seconds] for seconds in sorted(lowest))
