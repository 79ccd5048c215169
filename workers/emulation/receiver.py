"""One mail server: a listener on loopback, a task for each connection, one behaviour.

It speaks through the gateway's own receiving role (``relay.smtp.server``), which is tested
against other people's software elsewhere; here its task is to be reliable while it misbehaves.
"""

import socket
import ssl

import trio

from relay.net.listen import accept_loop, open_listener
from relay.net.stream import Stream
from relay.smtp.command import Mail, Rcpt
from relay.smtp.server import (
    Aborted,
    Content,
    Data,
    EndOfMessage,
    Event,
    ServerSettings,
)
from workers.emulation.behaviour import Behaviour, Refusal
from workers.emulation.conversation import Conversation, HangUp
from workers.emulation.inbox import Inbox

# How much of a message is read before the connection breaks in the middle of it.
_TORSO = 700


class Receiver:
    """A mail server for some domains. ``port`` is bound when it is made; ``serve`` runs it."""

    def __init__(
        self,
        domains: tuple[str, ...],
        behaviour: Behaviour,
        context: ssl.SSLContext,
        *,
        host: str = "127.0.0.1",
    ) -> None:
        self.domains = domains
        self.behaviour = behaviour
        self.inbox = Inbox()
        self.context = context
        self.settings = ServerSettings(
            hostname=f"mx.{domains[0]}",
            starttls=behaviour.starttls,
            chunking=behaviour.chunking,
        )
        self._listener = open_listener(host, 0)
        self.host = host
        self.port: int = self._listener.getsockname()[1]

    async def serve(self) -> None:
        """Take connections until cancelled; the port is closed then."""
        try:
            async with trio.open_nursery() as connections:

                def take(sock: socket.socket, address: str) -> None:
                    connections.start_soon(_Connection(self, Stream(sock), address).run)

                await accept_loop(self._listener, take)
        finally:
            self.close()

    def close(self) -> None:
        """Close the port of a receiver that was never served; again: nothing happens."""
        self._listener.close()


class _Connection(Conversation):
    """One session with one sender."""

    def __init__(self, receiver: Receiver, stream: Stream, address: str) -> None:
        super().__init__(stream, receiver.settings, receiver.context)
        self.receiver = receiver
        self.address = address
        self.inbox = receiver.inbox
        self.behaviour = receiver.behaviour
        self._begin(b"")

    async def run(self) -> None:
        self.inbox.connections += 1
        try:
            await super().run()
        except HangUp:
            self.inbox.broken += 1

    def greet(self) -> Refusal | None:
        refusal = self.behaviour.greet()
        self.inbox.deferred += refusal is not None
        return refusal

    async def answer(self, event: Event) -> None:
        if isinstance(event, Mail):
            self._begin(event.sender)
            self.session.accept()
        elif isinstance(event, Rcpt):
            self._judge(event.address)
        elif isinstance(event, Data):
            await self._open_content()
        elif isinstance(event, Content):
            self.content.append(event.octets)
        elif isinstance(event, EndOfMessage):
            await self._finish()
        elif isinstance(event, Aborted):
            self._begin(b"")

    def _begin(self, sender: bytes) -> None:
        self.sender = sender
        self.recipients: list[bytes] = []
        self.content: list[bytes] = []

    def _judge(self, recipient: bytes) -> None:
        domain = recipient.rpartition(b"@")[2].decode("ascii", "replace").lower()
        refusal = self.behaviour.judge(self.sender, recipient)
        if domain not in self.receiver.domains:
            refusal = Refusal(550, "5.7.1", "This server does not relay")
        if refusal is None:
            self.recipients.append(recipient)
            return self.session.accept()
        if refusal.code < 500:
            self.inbox.deferred += 1
        else:
            self.inbox.refused += 1
        return self.session.refuse(refusal.code, refusal.status, refusal.text)

    async def _open_content(self) -> None:
        self.session.accept()
        if self.behaviour.hang_up_in_content():
            await self.flush()
            await self.stream.receive(_TORSO)
            raise HangUp

    async def _finish(self) -> None:
        await self.behaviour.finish()
        silent = self.behaviour.hang_up_after_dot()
        content = b"".join(self.content)
        self.inbox.take(self.sender, self.recipients, content, answered=not silent)
        self.inbox.messages_over_tls += self.stream.tls is not None
        self.inbox.sources[self.session.hello] += 1
        self.inbox.addresses.setdefault(self.session.hello, set()).add(self.address)
        if silent:
            raise HangUp
        self.session.accept(f"taken as {self.inbox.messages}")
        self._begin(b"")
