"""The sets of networks that tenants name, kept fresh.

Where a set's networks are found, nearest first: in this process (``find``, a look into a dict), in
the store, where all ingress processes share them, at whoever publishes them. Each process looks
into the store twice a minute: what another one has had there counts as if it had asked itself, so a
set is asked for about once in its interval however many processes there are, and what an operator
accepts is in use everywhere soon.

Networks stay in use until there are better ones. An answer that cannot be had changes nothing, nor
does one that guard.py objects to: it is kept beside the good one until an operator accepts it, or
whoever published it thinks better of it. Without a store each process goes on by itself.
"""

import logging
import math
import random
import time
from dataclasses import dataclass

import trio

from relay.config import Config
from relay.config.units import Network
from relay.errors import OutgateError, StoreError, StoreUnavailable
from relay.events import EventLog, encode_event
from relay.ingress.networks.definition import Definition, find_networks, list_used
from relay.ingress.networks.guard import find_fault, find_objection
from relay.ingress.networks.lookup import look_up
from relay.net.resolver import Resolver
from relay.store.link import Link
from relay.store.networks import Listing, StoredSet, StoredSets

_log = logging.getLogger("outgate.ingress")

LOOK = 30.0  # seconds between two looks into the store
AGAIN = 60.0  # ... and two questions when there was no answer
TELL = 3600.0  # ... and two reports that a set could not be had
SPREAD = 0.1  # of an interval, either way: processes that start together ask one by one
# The store's clock may have been set back. What is from further ahead than this is old.
_AHEAD = 60.0
_SHOWN = 100  # networks in an event


@dataclass(slots=True)
class _Set:
    """A set in use. ``due`` and ``told`` are on trio's clock."""

    definition: Definition
    networks: tuple[Network, ...]
    good: StoredSet | None = None  # as the store had it when we last looked
    refused: StoredSet | None = None
    due: float = -math.inf
    told: float = -math.inf

    @property
    def name(self) -> str:
        return self.definition.name


class NetworkSets:
    """The sets of one ingress process. ``version`` is another after every change."""

    def __init__(
        self, config: Config, resolver: Resolver | None, link: Link, events: EventLog
    ) -> None:
        """``resolver``: None where there is no name server; sets then come from store and files."""
        self.version = 0
        self._sets = {name: _Set(one, one.seed) for name, one in list_used(config).items()}
        self._networks = {name: one.networks for name, one in self._sets.items()}
        self._ca_file = config.delivery.ca_file
        self._resolver = resolver
        self._store = StoredSets(link)
        self._events = events

    def find(self, names: tuple[str, ...]) -> tuple[Network, ...]:
        """Return the networks behind names of sets, addresses and CIDR blocks."""
        return find_networks(names, self._networks)

    def is_known(self, names: tuple[str, ...]) -> bool:
        """Tell whether all sets among these names have networks.

        Without a seed and with the DNS away since the first start, one may have none yet.
        """
        return all(self._networks.get(name, True) for name in names)

    async def run(self) -> None:
        """Keep all sets fresh, until cancelled."""
        while self._sets:
            await self.look()
            await trio.sleep(LOOK)

    async def look(self) -> None:
        """Take what others have stored, and ask for the sets whose time has come."""
        await self.read_store()
        async with trio.open_nursery() as nursery:
            for one in self._sets.values():
                if not one.definition.is_fixed and one.due <= trio.current_time():
                    nursery.start_soon(self._refresh, one)

    # -- what others have stored

    async def read_store(self) -> None:
        """Take what is in the store, and ask nobody. For a start with what was known before."""
        try:
            listing = await self._store.read(self._sets)
        except (StoreUnavailable, StoreError):
            return  # the service says so; we go on with what we have
        for one in self._sets.values():
            if not one.definition.is_fixed:
                await self._take_stored(one, listing)

    async def _take_stored(self, one: _Set, listing: Listing) -> None:
        """Take up what is new in the store. An operator may have accepted it: no guard here."""
        good, refused = listing.good.get(one.name), listing.refused.get(one.name)
        if good is not None and good != one.good:
            await self._take_good(one, good, listing.now)
        if refused != one.refused:
            if refused is not None and refused.origin == one.definition.origin:
                self._wait(one, listing.now - refused.time)
            one.refused = refused

    async def _take_good(self, one: _Set, good: StoredSet, now: float) -> None:
        # A thread: thousands of networks take half a second.
        if networks := await trio.to_thread.run_sync(_use, one.definition, good):
            if self._put(one, networks):
                _log.info("networks of %s: %d, from the store", one.name, len(networks))
            self._wait(one, now - good.time)
            one.good = good

    # -- what is published

    async def _refresh(self, one: _Set) -> None:
        """Ask for a set, and put it in use, or not."""
        try:
            found = await look_up(one.definition, self._resolver, ca_file=self._ca_file)
        except OutgateError as error:
            self._tell_failed(one, str(error))
            one.due = trio.current_time() + AGAIN
            return
        self._wait(one, 0)
        # A thread: thousands of networks take half a second.
        why = await trio.to_thread.run_sync(find_objection, one.networks, found.networks)
        try:
            if why:
                await self._refuse(one, found.networks, why)
            else:
                await self._take(one, found.networks)
        except (StoreUnavailable, StoreError):
            # In use here all the same; asked for again soon, so that the others get it, too.
            one.due = trio.current_time() + AGAIN

    async def _take(self, one: _Set, networks: tuple[Network, ...]) -> None:
        """Put an answer in use, here at once and through the store everywhere."""
        old, one.refused = one.networks, None
        if self._put(one, networks):
            self._tell_changed(one, old)
        one.good = await self._store.write(one.name, networks, one.definition.origin)

    async def _refuse(self, one: _Set, networks: tuple[Network, ...], why: str) -> None:
        """Leave the old networks in use, and say so, once for each different answer."""
        before = one.refused
        one.refused = StoredSet(tuple(map(str, networks)), 0.0, one.definition.origin, why)
        if before is None or (before.networks, before.why) != (one.refused.networks, why):
            self._tell_refused(one, len(networks), why)
        one.refused = await self._store.refuse(one.name, networks, one.definition.origin, why)

    def _put(self, one: _Set, networks: tuple[Network, ...]) -> bool:
        """Use these networks from now on; False when they are the same."""
        if networks == one.networks:
            return False
        one.networks = self._networks[one.name] = networks
        self.version += 1
        return True

    def _wait(self, one: _Set, age: float) -> None:
        """Leave a set alone until its answer, so many seconds old, is to be refreshed."""
        interval = one.definition.refresh * random.uniform(1 - SPREAD, 1 + SPREAD)  # noqa: S311
        rest = interval - age if age > -_AHEAD else 0.0
        one.due = trio.current_time() + rest

    # -- what is told

    def _tell_changed(self, one: _Set, old: tuple[Network, ...]) -> None:
        before, after = set(old), set(one.networks)
        added = [str(network) for network in one.networks if network not in before]
        removed = [str(network) for network in old if network not in after]
        self._write(
            "networks-changed",
            one,
            old=len(old),
            new=len(one.networks),
            added=added[:_SHOWN],
            removed=removed[:_SHOWN],
        )
        _log.info(
            "networks of %s: %d added, %d removed (%s)",
            one.name,
            len(added),
            len(removed),
            one.definition.origin,
        )

    def _tell_refused(self, one: _Set, count: int, why: str) -> None:
        self._write("networks-refused", one, text=why, old=len(one.networks), new=count)
        _log.error(
            "networks of %s: the new ones (%s) are not taken: %s. Those before stay in use; see "
            "`outgate networks`, and if they are right: `outgate networks --accept %s`",
            one.name,
            one.definition.origin,
            why,
            one.name,
        )

    def _tell_failed(self, one: _Set, text: str) -> None:
        if trio.current_time() - one.told < TELL:
            return
        one.told = trio.current_time()
        self._write("networks-not-refreshed", one, text=text, old=len(one.networks))
        _log.warning(
            "networks of %s could not be refreshed: %s. %s; asked again every minute",
            one.name,
            text,
            "Those before stay in use" if one.networks else "Nobody can send from there yet",
        )

    def _write(self, event: str, one: _Set, **more: object) -> None:
        origin = one.definition.origin
        self._events.write(
            encode_event(
                {"time": time.time(), "event": event, "set": one.name, "origin": origin, **more}
            )
        )


def _use(definition: Definition, stored: StoredSet) -> tuple[Network, ...]:
    """Return the networks of a record, none if it is of no use: of another set, or not ours."""
    if stored.origin != definition.origin:
        return ()
    try:
        networks = stored.read_networks()
    except ValueError:
        return ()
    return () if find_fault(networks) else networks
