"""What the admin service works with: the store, what is remembered of it, and what others contribute."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import trio

from relay.config import Config
from relay.store.queue import Store
from workers.admin.hearing import Hearing
from workers.admin.memo import Memo
from workers.admin.pulse import Pulse
from workers.admin.snapshot import Snapshot

_READS = 16  # that go to the store at a time
_ACTS = 4

Read = Callable[..., Awaitable[dict[str, Any]]]


@dataclass(slots=True)
class Office:
    """One for each service. ``acting``: the store over a link of its own, with more patience."""

    config: Config
    store: Store
    acting: Store
    pulse: Pulse
    snapshot: Snapshot
    hearing: Hearing
    stop: trio.Event
    # By name of the query's fields; None: this service has no such thing.
    search: Read | None = None
    flow: Read | None = None
    standing_history: Read | None = None
    metrics: Callable[[], Awaitable[bytes]] | None = None
    memo: Memo = field(default_factory=Memo)
    reads: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(_READS))
    acts: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(_ACTS))
