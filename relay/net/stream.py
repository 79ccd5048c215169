"""One connection: a non-blocking socket, in clear or in TLS, driven by trio.

Why not ``trio.SocketStream`` and ``trio.SSLStream``: they are built for any transport and any
mixture of readers and writers. One session of SMTP is one task that reads or writes, never both,
over a real socket: a plain system call and a wait do, for clear text and TLS alike, in one class
with our own errors. A round trip costs 40 us of CPU instead of 44 to 50 (``tests/bench/streams.py``).

Limits of time are the caller's: a Patience (patience.py) that closes the stream, or a cancel scope
around ``receive`` and ``send``. After a cancelled ``send`` or handshake the stream is only good for
``close``.
"""

import contextlib
import socket
import ssl
import struct

import trio

from relay.errors import PeerClosed, TlsFailed

_READ = 64 * 1024
_NO_LINGERING = struct.pack("ii", 1, 0)
_SCRATCH = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Stream:
    """A connected TCP socket. Belongs to one task at a time."""

    __slots__ = ("_sock", "tls")

    def __init__(self, sock: socket.socket) -> None:
        """Take over a connected socket; it becomes non-blocking."""
        sock.setblocking(False)
        self._sock = sock
        self.tls: ssl.SSLSocket | None = None

    async def receive(self, size: int = _READ) -> bytes:
        """Return the next octets, at most ``size``; b"" when the peer has closed.

        Raises PeerClosed when the connection broke.
        """
        try:
            if self.tls is not None:
                return await self._receive_tls(self.tls, size)
            # In SMTP the other side has just been given something to answer, so trying first
            # would almost always be in vain: wait, then read.
            while True:
                await trio.lowlevel.wait_readable(self._sock)
                try:
                    return self._sock.recv(size)
                except BlockingIOError:
                    pass  # woken for nothing
        except (OSError, trio.ClosedResourceError) as error:
            self._forget_errors()
            raise PeerClosed(f"connection lost: {_name(error)}") from error

    async def _receive_tls(self, tls: ssl.SSLSocket, size: int) -> bytes:
        while True:
            try:
                # Trying first is needed here: octets may be waiting inside OpenSSL.
                return tls.recv(size)
            except ssl.SSLWantReadError:
                await trio.lowlevel.wait_readable(tls)
            except ssl.SSLWantWriteError:
                await trio.lowlevel.wait_writable(tls)
            except ssl.SSLEOFError:
                return b""
            except BrokenPipeError:
                # Closed without a TLS goodbye, and what OpenSSL (3.4 or newer) has to say about that
                # nobody reads any more.
                self._forget_errors()
                return b""

    async def send(self, octets: bytes | memoryview) -> None:
        """Send everything. Raises PeerClosed."""
        sock, rest = self._sock, octets
        try:
            while True:
                try:
                    sent = sock.send(rest)
                except (BlockingIOError, ssl.SSLWantWriteError):
                    sent = 0
                if sent == len(rest):
                    return
                rest = memoryview(rest)[sent:]
                await trio.lowlevel.wait_writable(sock)
        except (OSError, trio.ClosedResourceError) as error:
            self._forget_errors()
            raise PeerClosed(f"connection lost: {_name(error)}") from error

    async def start_tls(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
    ) -> None:
        """Do the handshake. Raises TlsFailed (refused, unverified), PeerClosed."""
        sock = self._sock
        try:
            sock.getpeername()  # fails for a connection that is gone; wrap_socket would leak it
            # wrap_socket detaches the plain socket: from here on there is only the wrapped one.
            self.tls = context.wrap_socket(
                sock,
                server_side=server_side,
                server_hostname=server_hostname,
                do_handshake_on_connect=False,
                suppress_ragged_eofs=True,
            )
            self._sock = self.tls
            await self._shake_hands(self.tls)
        except ssl.SSLCertVerificationError as error:
            raise TlsFailed(f"certificate not accepted: {error.verify_message}") from error
        except ssl.SSLError as error:
            raise TlsFailed(f"TLS handshake failed: {error.reason or error}") from error
        except (OSError, trio.ClosedResourceError) as error:
            self._forget_errors()
            raise PeerClosed(f"connection lost during the TLS handshake: {_name(error)}") from error

    @staticmethod
    async def _shake_hands(tls: ssl.SSLSocket) -> None:
        while True:
            try:
                return tls.do_handshake()
            except ssl.SSLWantReadError:
                await trio.lowlevel.wait_readable(tls)
            except ssl.SSLWantWriteError:
                await trio.lowlevel.wait_writable(tls)

    def _forget_errors(self) -> None:
        """Keep what has broken this connection from breaking the next one.

        OpenSSL has one list of errors for a thread, not for a connection, and takes an error that it
        finds there for news of whichever connection is read or written next. CPython leaves one there
        when a system call fails under OpenSSL 3.4 or newer (its issue 148594): one peer that resets its
        connection would end all TLS sessions whose turn comes before the next handshake, after a final
        dot, too. There is no function that empties the list, but this does, on its way to a refusal;
        22 us.
        """
        if self.tls is not None:
            with contextlib.suppress(ssl.SSLError):
                _SCRATCH.set_ciphers("")

    def close(self) -> None:
        """Close at once. Tasks that wait on this stream get PeerClosed."""
        if self._sock.fileno() >= 0:
            trio.lowlevel.notify_closing(self._sock)
        self._sock.close()

    def abort(self) -> None:
        """Close at once as ``close`` does, with a reset (RFC 9293 §3.10.5): nothing that waits is sent.

        After ``close`` the kernel goes on sending what it holds, and until a slow peer has read that,
        the connection is open for it.
        """
        if self._sock.fileno() >= 0:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)
        self.close()

    @property
    def protocol(self) -> str:
        """What protects the connection, e.g. ``TLSv1.3 TLS_AES_256_GCM_SHA384``; "" in clear."""
        if self.tls is None or (cipher := self.tls.cipher()) is None:
            return ""
        return f"{self.tls.version()} {cipher[0]}"


def _name(error: Exception) -> str:
    """The operating system's words, or that it was we who closed (``Stream.close``)."""
    if isinstance(error, trio.ClosedResourceError):
        return "closed from our side"
    return getattr(error, "strerror", None) or str(error)
