"""What hosts have shown: who had validated TLS for a while is expected to go on.

It guards against what opportunistic TLS is blind to: somebody on the way who takes STARTTLS out of the
host's offer (RFC 7435 §1.2). Kept by host group, in the store, for all workers.
"""

import logging
from collections import OrderedDict

import trio

from relay.config.schema import Tls
from relay.errors import StoreError, StoreUnavailable
from relay.store.learnt import Learnt

_log = logging.getLogger("outgate.worker")

_NOTE_EVERY = 600.0  # sessions of a group are noted once in this time, s
_CACHE_SIZE = 10_000


class Memory:
    """One for each worker process. Nothing here raises: it must not hold mail up."""

    def __init__(self, learnt: Learnt, settings: Tls) -> None:
        self._learnt = learnt
        self._after = settings.learn_after
        self._lifetime = settings.learnt_for
        self._noted: OrderedDict[str, float] = OrderedDict()  # group -> trio time

    async def note(self, group: str) -> None:
        """A session with validated TLS was opened."""
        now = trio.current_time()
        if now - self._noted.get(group, -_NOTE_EVERY) < _NOTE_EVERY:
            return
        self._noted[group] = now
        self._noted.move_to_end(group)
        if len(self._noted) > _CACHE_SIZE:
            self._noted.popitem(last=False)
        try:
            await self._learnt.note(group, lifetime=self._lifetime)
        except (StoreUnavailable, StoreError) as error:
            self._noted.pop(group, None)
            _log.warning("%s: validated TLS is not noted: %s", group, error)

    async def expects_tls(self, group: str) -> bool:
        """Tell whether a session in clear with this group would be less than what it has shown."""
        try:
            first, last = await self._learnt.read(group)
        except (StoreUnavailable, StoreError) as error:
            _log.warning("%s: nobody knows what TLS it has shown: %s", group, error)
            return False
        return last > 0 and last - first >= self._after
