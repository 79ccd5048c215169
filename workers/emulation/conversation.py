"""One session of an emulated receiver: octets in and out, patience, the end of it.

What is answered is up to who inherits it: ``receiver`` for those of the demo, ``providers.host``
for those that behave like providers.
"""

import abc
import ssl

import trio

from relay.errors import NetworkError
from relay.net.stream import Stream
from relay.smtp.server import Closed, Event, ServerSession, ServerSettings, StartTls
from workers.emulation.behaviour import Refusal

# RFC 5321 §4.5.3.2.7: a server waits five minutes for the next command.
_PATIENCE = 300


class HangUp(Exception):
    """The receiver closes without a word."""


class Conversation(abc.ABC):
    """A session with one sender, over its stream."""

    def __init__(self, stream: Stream, settings: ServerSettings, context: ssl.SSLContext) -> None:
        self.stream = stream
        self.session = ServerSession(settings)
        self._context = context
        self._patience = trio.CancelScope()

    async def run(self) -> None:
        """Talk until either side has had enough; the stream is closed then."""
        try:
            with trio.move_on_after(_PATIENCE) as self._patience:
                await self._converse()
        except NetworkError:
            pass  # the sender is gone, and has its own way of knowing what that means
        finally:
            self.stream.close()

    def greet(self) -> Refusal | None:
        """Say why a connection is not wanted; None: it is."""
        return None

    @abc.abstractmethod
    async def answer(self, event: Event) -> None:
        """Answer what asks, and take note of what tells. Raises HangUp."""

    async def pause(self) -> None:  # noqa: B027 - most have no reason to wait
        """Wait before the replies that are due are sent."""

    async def start_tls(self) -> None:
        """Answer StartTls with yes, and shake hands."""
        self.session.accept()
        await self.flush()
        await self.stream.start_tls(self._context, server_side=True)
        self.session.tls_started()

    async def flush(self) -> None:
        """Send the replies that are due."""
        if octets := self.session.data_to_send():
            await self.pause()
            await self.stream.send(octets)

    async def _converse(self) -> None:
        refusal = self.greet()
        if refusal is not None:
            self.session.shut_down(refusal.text, code=refusal.code, status=refusal.status)
            return await self.flush()
        self.session.greet()
        while True:
            event = self.session.next_event()
            if event is None:
                await self.flush()
                if not await self._receive():
                    return None
            elif isinstance(event, Closed):
                return await self.flush()
            elif isinstance(event, StartTls):
                await self.start_tls()
            else:
                await self.answer(event)

    async def _receive(self) -> bool:
        octets = await self.stream.receive()
        self._patience.deadline = trio.current_time() + _PATIENCE
        self.session.receive(octets)
        return bool(octets)
