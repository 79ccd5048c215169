"""Makes traces of what is heard, and sends them every few seconds.

Traces are for looking at, and may be lost: what a receiver does not take is dropped, and its trouble told
once, until it takes something again. While one batch is on its way nothing is taken; events that come
meanwhile wait where they are heard (workers/admin/hearing.py), in bounds of their own.
"""

import logging
from collections.abc import Sequence
from typing import Any, Protocol

import trio

from relay.config import Config
from workers.tracing.exporter import Exporter
from workers.tracing.span import Span, make_spans

_log = logging.getLogger("outgate.admin")

WAIT = 2.0  # s that spans wait for others, to be sent together
_SPANS = 512  # that are sent together


class Receiver(Protocol):
    """Where spans go."""

    def export(self, spans: Sequence[Span]) -> bool:
        """Send spans; False: they are lost. May block."""

    def close(self) -> None:
        """Have ``export`` come back."""


class Tracer:
    """One for each admin service; ``run`` it with what is heard."""

    def __init__(self, receiver: Receiver, share: float) -> None:
        """``share`` of messages: 0 to 1."""
        self._receiver = receiver
        self._share = share
        self._in_trouble = False

    async def run(self, events: trio.MemoryReceiveChannel[list[dict[str, Any]]]) -> None:
        """Send traces of what is heard, until the channel ends or this is cancelled."""
        is_open = True
        try:
            while is_open:
                spans: list[Span] = []
                is_open = await self._gather(events, spans)
                for start in range(0, len(spans), _SPANS):
                    await self._send(spans[start : start + _SPANS])
        finally:
            self._receiver.close()

    async def _gather(
        self, events: trio.MemoryReceiveChannel[list[dict[str, Any]]], spans: list[Span]
    ) -> bool:
        """Take events until some time after the first; False at the end."""
        with trio.CancelScope() as scope:
            try:
                while len(spans) < _SPANS:
                    for event in await events.receive():
                        spans += make_spans(event, self._share)
                    if spans:
                        scope.deadline = min(scope.deadline, trio.current_time() + WAIT)
            except trio.EndOfChannel:
                return False
        return True

    async def _send(self, spans: Sequence[Span]) -> None:
        # Not waited for when we stop: the receiver is closed then, and the thread ends by itself.
        taken = await trio.to_thread.run_sync(self._receiver.export, spans, abandon_on_cancel=True)
        if not taken and not self._in_trouble:
            _log.warning("traces are lost: the receiver at admin.traces does not take them")
        elif taken and self._in_trouble:
            _log.warning("traces are taken again")
        self._in_trouble = not taken


def make_tracer(config: Config) -> Tracer | None:
    """Return what sends traces, if they are wanted. Raises StartError without the packages for it."""
    if not config.admin.traces or not config.admin.trace_share:
        return None
    return Tracer(Exporter(config.admin.traces), config.admin.trace_share)
