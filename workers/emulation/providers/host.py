"""A provider on a loopback port: SMTP sessions that ask the engine at each step.

The client's address is that of the connection. Content is counted and thrown away; of each
message its header is kept, until it is known that nobody complains.
"""

import re
import socket
import ssl

import trio

from relay.net.listen import accept_loop, open_listener
from relay.net.stream import Stream
from relay.smtp.command import Mail, Rcpt
from relay.smtp.server import Aborted, Content, Data, EndOfMessage, Event, ServerSettings
from workers.emulation.behaviour import Refusal
from workers.emulation.conversation import Conversation
from workers.emulation.providers.profile import Profile
from workers.emulation.providers.provider import Provider, Visit

_MOST_HEAD = 64 * 1024  # octets of a header that are kept
_MOST_CONNECTIONS = 2000  # of all clients; who comes then is hung up on
_MESSAGE_ID = re.compile(rb"^Message-ID:\s*<([^<>\s]{1,250})>", re.IGNORECASE | re.MULTILINE)


class Host:
    """One provider. ``port`` is bound when it is made; ``serve`` runs it."""

    def __init__(self, profile: Profile, context: ssl.SSLContext, *, seed: int) -> None:
        """``context``: for STARTTLS. Within trio. Raises StartError."""
        self.provider = Provider(profile, seed=seed, clock=trio.current_time)
        self.name = profile.name
        self.domains = profile.domains
        self.context = context
        self.settings = ServerSettings(
            hostname=self.provider.host,
            starttls=profile.tls != "none",
            max_message=profile.max_message or ServerSettings.max_message,
        )
        listen = profile.listen
        self.host = listen.host if listen else "127.0.0.1"
        self._listener = open_listener(self.host, listen.port if listen else 0)
        self.port: int = self._listener.getsockname()[1]
        self.messages = 0

    async def serve(self) -> None:
        """Take connections until cancelled; the port is closed then."""
        try:
            async with trio.open_nursery() as connections:

                def take(sock: socket.socket, address: str) -> None:
                    if len(connections.child_tasks) > _MOST_CONNECTIONS:
                        return sock.close()
                    return connections.start_soon(_Session(self, Stream(sock), address).run)

                await accept_loop(self._listener, take)
        finally:
            self.close()

    def close(self) -> None:
        """Close the port of a host that was never served; again: nothing happens."""
        self._listener.close()


class _Session(Conversation):
    """One connection of one client."""

    def __init__(self, host: Host, stream: Stream, address: str) -> None:
        super().__init__(stream, host.settings, host.context)
        self.host = host
        self.provider = host.provider
        self.address = address
        self.visit: Visit | None = None  # once the connection is taken
        self.size = 0
        self.head = b""

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            if self.visit is not None:
                self.visit.close()

    def greet(self) -> Refusal | None:
        refusal = self.provider.open(self.address)
        if refusal is not None:
            return _complete(refusal)
        self.visit = self.provider.visit(self.address, tls=False)
        return None

    async def pause(self) -> None:
        if seconds := self.provider.draw_delay(self.address):
            await trio.sleep(seconds)

    async def start_tls(self) -> None:
        await super().start_tls()
        assert self.visit is not None
        self.visit.tls = True

    async def answer(self, event: Event) -> None:
        assert self.visit is not None
        if isinstance(event, Mail):
            self.size, self.head = 0, b""
            self._reply(self.visit.mail(event.sender))
        elif isinstance(event, Rcpt):
            self._reply(self._judge(self.visit, event.address))
        elif isinstance(event, Data):
            self.session.accept()
        elif isinstance(event, Content):
            self._read(event.octets)
        elif isinstance(event, EndOfMessage):
            self._finish(self.visit)
        elif isinstance(event, Aborted):
            self.visit.abandon()

    def _judge(self, visit: Visit, recipient: bytes) -> Refusal | None:
        domain = recipient.rpartition(b"@")[2].decode("ascii", "replace").lower()
        if self.host.domains and domain not in self.host.domains:
            return Refusal(550, "5.7.1", "Relaying denied")
        return visit.rcpt(recipient)

    def _read(self, octets: bytes) -> None:
        self.size += len(octets)
        if len(self.head) < _MOST_HEAD and b"\r\n\r\n" not in self.head:
            self.head += octets[: _MOST_HEAD - len(self.head)]

    def _finish(self, visit: Visit) -> None:
        head = self.head.partition(b"\r\n\r\n")[0] + b"\r\n"
        found = _MESSAGE_ID.search(head)
        message_id = found[1].decode("ascii", "replace") if found else ""
        refusal = visit.finish(self.size, message_id=message_id, head=head)
        if refusal is None:
            self.host.messages += 1
            self.session.accept(f"Ok: queued as {self.host.messages:08X}")
        else:
            self._reply(refusal)

    def _reply(self, refusal: Refusal | None) -> None:
        if refusal is None:
            return self.session.accept()
        refusal = _complete(refusal)
        return self.session.refuse(refusal.code, refusal.status, refusal.text)


def _complete(refusal: Refusal) -> Refusal:
    """A reply without an enhanced code begins with the text's first word, where the code would be."""
    if refusal.status:
        return refusal
    first, _, rest = refusal.text.partition(" ")
    return Refusal(refusal.code, first, rest)
