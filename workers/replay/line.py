"""A connection to the server that gets the mail: made when it is needed, used again, timed."""

import ssl
from dataclasses import dataclass
from typing import Literal

import trio

from relay.errors import NetworkError, OutgateError, PeerClosed, TlsFailed
from relay.model import Envelope
from relay.net.connect import connect
from relay.net.stream import Stream
from relay.smtp.client import (
    ClientSession,
    Closed,
    Event,
    Finished,
    LocalProtocolError,
    Ready,
    RecipientResult,
    Refused,
    RemoteProtocolError,
    SendContent,
    TlsGo,
)
from relay.smtp.reply import Reply
from workers.exchange import next_event

Tls = Literal["none", "opportunistic", "require", "verify"]

_OPENING = 60.0  # seconds, for connecting, TLS and greeting
_PATIENCE = 600.0  # for one message; RFC 5321 §4.5.3.2.6 has ten minutes for the final dot alone
_SLOWEST = 20_000.0  # octets/s, on top of that
_GOODBYE = 2.0
_PIECE = 256 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """Whom the mail goes to. ``name``: that the certificate must have, when it is verified."""

    address: str
    port: int
    name: str
    source: str
    ehlo: bytes
    tls: Tls
    context: ssl.SSLContext


class NotTaken(OutgateError):
    """No session: the server cannot be reached, refused us, or has no TLS that will do."""

    def __init__(self, text: str, reply: Reply | None = None, command: str = "CONNECT") -> None:
        super().__init__(text)
        self.reply = reply
        self.command = command


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one try. Times in seconds; None where it did not come to that.

    ``unknown``: the connection ended between the final dot and its answer.
    """

    results: tuple[RecipientResult, ...]
    unknown: bool = False
    opening: float | None = None  # connecting, TLS, greeting; for the first message of a connection
    dot: float | None = None  # from the last octet of the content to the answer
    whole: float | None = None  # from MAIL to the answer


class Line:
    """One connection at a time to one server. Belongs to one task."""

    def __init__(self, target: Target, messages: int, *, patience: float = _PATIENCE) -> None:
        """``messages``: how many a connection carries before it is made anew.

        ``patience``: seconds for one message, beside those that its octets may take.
        """
        self._target = target
        self._most = messages
        self._patience = patience
        self._stream: Stream | None = None
        self._session = ClientSession(target.ehlo)
        self._sent = 0
        self._dot_at = 0.0
        self.protocol = ""  # what protects the present connection

    async def send(self, envelope: Envelope, content: bytes) -> Answer:
        """Try to send a message. Raises NotTaken when there is no session to send it in."""
        opening = None
        if self._sent >= self._most or not self._session.can_begin:
            await self.hang_up()
        if self._stream is None:
            began = trio.current_time()
            await self._open()
            opening = trio.current_time() - began
        began = trio.current_time()
        self._sent += 1
        self._dot_at = 0.0
        try:
            return await self._try(envelope, content, opening, began)
        except LocalProtocolError as error:  # an address that nobody can say
            text = f"5.1.3 {error}".encode()
            result = RecipientResult(Reply(553, (text,)), "MAIL", local=True)
            return Answer((result,) * len(envelope.recipients), opening=opening)

    async def _try(
        self, envelope: Envelope, content: bytes, opening: float | None, began: float
    ) -> Answer:
        reason = "the server took too long to answer"
        try:
            with trio.move_on_after(self._patience + len(content) / _SLOWEST):
                results = await self._transact(envelope, content)
                now = trio.current_time()
                is_whole = bool(self._dot_at) and not results[0].local
                dot = now - self._dot_at if is_whole else None
                unknown = self._session.content_sent
                return Answer(results, unknown, opening, dot, now - began)
        except (NetworkError, RemoteProtocolError) as error:
            reason = str(error)
        except BaseException:
            self.drop()
            raise
        unknown = self._session.content_sent
        results = self._session.abandon(reason)
        self.drop()
        return Answer(results, unknown, opening)

    async def _transact(self, envelope: Envelope, content: bytes) -> tuple[RecipientResult, ...]:
        self._session.begin(envelope, len(content), final_newline=content.endswith(b"\r\n"))
        at = 0
        while True:
            event = await self._next()
            if isinstance(event, Finished):
                return event.results
            if isinstance(event, SendContent):
                at = await self._send_content(content, at)
            elif isinstance(event, Closed):
                raise PeerClosed("the server closed the connection")

    async def _send_content(self, content: bytes, at: int) -> int:
        """Send pieces from ``at`` on, as many as the server takes now; return where it is then."""
        assert self._stream is not None
        while self._session.takes_content:
            piece = content[at : at + _PIECE]
            at += len(piece)
            last = at == len(content)
            await self._stream.send(self._session.content(piece, last))
            if last:
                self._dot_at = trio.current_time()
        return at

    # -- opening and ending

    async def _open(self) -> None:
        target = self._target
        self._session = ClientSession(target.ehlo)
        self._sent = 0
        try:
            with trio.fail_after(_OPENING):
                self._stream = await connect(target.address, target.port, source=target.source)
                await self._expect(Ready)
                await self._secure()
        except trio.TooSlowError:
            self.drop()
            raise NotTaken(f"no session in {_OPENING:.0f} s") from None
        except (NetworkError, RemoteProtocolError) as error:
            self.drop()
            raise NotTaken(str(error)) from error
        except BaseException:
            self.drop()
            raise
        self.protocol = self._stream.protocol

    async def _secure(self) -> None:
        target = self._target
        if target.tls == "none":
            return
        assert self._stream is not None
        if not self._session.capabilities.starttls:
            if target.tls != "opportunistic":
                raise TlsFailed("the server does not offer STARTTLS")
            return
        self._session.start_tls()
        await self._expect(TlsGo)
        await self._stream.start_tls(target.context, server_hostname=target.name)
        self._session.tls_started()
        await self._expect(Ready)

    async def _expect(self, kind: type[Event]) -> None:
        event = await self._next()
        if isinstance(event, Refused):
            text = f"{event.command} was refused: {event.reply.code} {event.reply.text}"
            raise NotTaken(text, event.reply, event.command)
        if not isinstance(event, kind):
            raise PeerClosed("the server closed the connection")

    async def _next(self) -> Event:
        assert self._stream is not None
        return await next_event(self._session, self._stream)

    async def hang_up(self) -> None:
        """Say QUIT, and close."""
        if self._stream is None:
            return
        try:
            with trio.move_on_after(_GOODBYE):
                self._session.quit()
                await self._next()
        except (NetworkError, RemoteProtocolError, LocalProtocolError):
            pass  # it is over either way
        finally:
            self.drop()

    def drop(self) -> None:
        """Close without a word."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
