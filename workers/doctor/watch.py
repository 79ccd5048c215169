"""The regular look at our own sources: what has changed is told, and who fails does not send.

All workers are ready to do it, and one does: it holds the lease (relay/store/checking.py), looks at once
and then every ``checks.interval``. When it stops, or dies, another takes over, and begins with a look.

Where everything is when the process dies, line by line of ``_note``:

    before, or while the DNS is asked    nothing is known; the next who has the lease looks at once
    suspended, not written               it does not send; the next look finds the same, and tells it
    told, not written                    told once more by the next look
    store away, at any line              as if we had died there; a look is due again in a moment. What
                                         is suspended stays so for two intervals, on the store's clock

Only what the DNS says is looked at, by a resolver of its own: mail has answers up to an hour old, and
here it is the change that counts. Whether an address can be bound is each worker's to see
(``workers/desk.py``).
"""

import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from functools import partial

import trio

from relay.config import Config
from relay.config.schema import Source
from relay.errors import StartError, StoreError, StoreUnavailable
from relay.events import EventLog, encode_event
from relay.net.resolver import Resolver
from relay.store.checking import LEASE, Checked, Checking, Key
from relay.store.link import Link
from relay.store.suspension import Suspensions
from workers.doctor.examination import do_in_time, list_source_steps
from workers.doctor.finding import Finding, find_worst, is_bad
from workers.doctor.gate import WHO, Gate, explain
from workers.doctor.together import do_together
from workers.quote import limit

_log = logging.getLogger("outgate.worker")

BEAT = LEASE / 3  # s, between two signs of life
_AGAIN = 60.0  # s, after a look that the store did not survive
_GOODBYE = 1.0  # s, for giving the lease back


class Watch:
    """Of one worker process."""

    def __init__(self, config: Config, link: Link, events: EventLog) -> None:
        self._config = config
        self._interval = float(config.checks.interval)
        self._checking = Checking(link)
        self._gate = Gate(config.checks.gate, self._interval, Suspensions(link))
        self._events = events
        self._worker = os.urandom(5).hex()
        self._due = -math.inf  # on trio's clock
        self._troubled = False  # the store is away, and that was said

    async def run(self) -> None:
        """Look whenever it is our turn; until cancelled."""
        try:
            while True:
                await self._beat()
                await trio.sleep(self._find_wait())
        finally:
            with trio.move_on_after(_GOODBYE, shield=True):
                await self._leave()

    def _find_wait(self) -> float:
        """Return the seconds until the next beat: who does not have the lease has nothing due."""
        if self._due == -math.inf:
            return BEAT
        return min(BEAT, max(0.0, self._due - trio.current_time()))

    async def _beat(self) -> None:
        """Take or renew the lease, and look if it is ours and time has come."""
        try:
            if not await self._checking.lease.take(self._worker):
                self._due = -math.inf  # whoever takes over looks at once
            elif trio.current_time() >= self._due:
                self._due = trio.current_time() + self._interval
                await self._look_with_lease()
        except (StoreUnavailable, StoreError) as error:
            self._due = trio.current_time() + min(_AGAIN, self._interval)
            if not self._troubled:
                _log.warning("our own sources are not looked at: %s", error)
            self._troubled = True
        else:
            self._troubled = False

    async def _look_with_lease(self) -> None:
        """Look, and go on giving signs of life meanwhile: a DNS that is silent takes its time."""

        async def renew() -> None:
            while True:
                await trio.sleep(BEAT)
                try:
                    await self._checking.lease.take(self._worker)
                except (StoreUnavailable, StoreError):
                    continue  # two that look find the same

        trouble: StoreUnavailable | StoreError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(renew)
            try:
                await self.look()
            except (StoreUnavailable, StoreError) as error:
                trouble = error
            nursery.cancel_scope.cancel()
        if trouble is not None:
            raise trouble

    async def _leave(self) -> None:
        try:
            await self._checking.lease.leave(self._worker)
        except (StoreUnavailable, StoreError):
            return  # it ends by itself

    # -- one look -----------------------------------------------------------------------------

    async def look(self) -> None:
        """Look at all sources once, tell what has changed, and open or shut the gate.

        Raises StoreUnavailable, StoreError.
        """
        try:
            resolver = Resolver(self._config.dns)
        except StartError as error:
            _log.warning("our own sources were not looked at: %s", error)
            return
        sources = self._config.source
        steps = [step for one in sources for step in list_source_steps(self._config, one, resolver)]
        found = await do_together([partial(do_in_time, step) for step in steps])
        findings = [one for several in found for one in several]
        before = await self._checking.read()
        after: dict[Key, Checked] = {}
        for source in sources:
            ours = [one for one in findings if one.source == source.name]
            after |= await self._note(source, ours, before)
        await self._checking.forget(before.keys() - after.keys())

    async def _note(
        self, source: Source, findings: Sequence[Finding], before: Mapping[Key, Checked]
    ) -> dict[Key, Checked]:
        """Act on what was found of one source, tell what is new, and keep it; return what is known."""
        # One step, also where the watch is cut off: no gate moves without a word about it.
        with trio.CancelScope(shield=True):
            if change := await self._gate.apply(source.name, findings):
                self._tell_gate(change, source, findings)
        known: dict[Key, Checked] = {}
        fresh: dict[Key, Checked] = {}
        for check in dict.fromkeys(one.check for one in findings):
            key = (source.name, check)
            now, old = _sum_up([one for one in findings if one.check == check]), before.get(key)
            if now is None or (old is not None and (now.level, now.text) == (old.level, old.text)):
                known |= {key: old} if old is not None else {}
                continue
            known[key] = fresh[key] = now
            if old is not None or now.level != "ok":
                self._tell_change(key, now, old.level if old else "")
        await self._checking.write(fresh)
        return known

    def _tell_change(self, key: Key, now: Checked, was: str) -> None:
        source, check = key
        event = {
            "time": now.since,
            "event": "check",
            "source": source,
            "check": check,
            "level": now.level,
            "was": was,
            "text": now.text,
        }
        self._events.write(encode_event(event))
        level = logging.WARNING if now.level in ("warning", "error") else logging.INFO
        _log.log(level, "source %s: %s: %s: %s", source, check, now.level, now.text)

    def _tell_gate(self, change: str, source: Source, findings: Sequence[Finding]) -> None:
        gated = [one for one in findings if one.check in self._config.checks.gate]
        failing = [one for one in gated if one.level == "error"]
        why = explain(failing) if failing else "it passes again"
        event = {
            "time": time.time(),
            "event": change,
            "source": source.name,
            "who": WHO,
            "why": why,
        }
        self._events.write(encode_event(event))
        _log.warning("source %s is %s: %s", source.name, change, why)


def _sum_up(findings: Sequence[Finding]) -> Checked | None:
    """Put what one check has found of one source into a line; None when nobody could tell.

    What is bad and what could not be told stand side by side: the bad is known. But "ok, as far as
    anybody answered" is not: then what was known before stays.
    """
    worst = find_worst(findings)
    if not is_bad(worst) and any(one.level == "skipped" for one in findings):
        return None
    texts = sorted({one.text for one in findings if one.level == worst})
    return Checked(worst, limit("; ".join(texts)), time.time())
