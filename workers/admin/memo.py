"""What was read a moment ago: several pages that ask for the same get it with one read."""

import math
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import trio

_KEPT = 200

Value = TypeVar("Value")


@dataclass(slots=True)
class _Entry:
    lock: trio.Lock = field(default_factory=trio.Lock)
    ends: float = -math.inf
    value: Any = None


class Memo:
    """Answers by key, each for a second or so."""

    def __init__(self) -> None:
        self._entries: dict[Hashable, _Entry] = {}

    async def get(
        self, key: Hashable, read: Callable[[], Awaitable[Value]], *, seconds: float = 1.0
    ) -> Value:
        """Return what is known, or read it: one at a time. What ``read`` raises is not kept."""
        entry = self._entries.get(key)
        if entry is None:
            self._make_room()
            entry = self._entries[key] = _Entry()
        async with entry.lock:
            if trio.current_time() >= entry.ends:
                entry.value = await read()
                entry.ends = trio.current_time() + seconds
            value: Value = entry.value
            return value

    def forget(self) -> None:
        """Read anew from now on."""
        for entry in self._entries.values():
            entry.ends = -math.inf

    def _make_room(self) -> None:
        """Drop the oldest that nobody waits for."""
        while len(self._entries) >= _KEPT:
            idle = (key for key, entry in self._entries.items() if not entry.lock.locked())
            key = next(idle, None)
            if key is None:
                return
            del self._entries[key]
