"""A sink with STARTTLS: ``python -m tests.bench.tls.sink PORT CHAIN KEY COUNTS``.

Takes every message, keeps none, and counts in the file COUNTS (``counts.py``). TLS 1.3, and no mail
without it. It ends when its standard input does.

One thread around epoll, as little Python for a message as will do. It issues tickets, as servers
do unless told otherwise: who can resume a session, may.
"""

import select
import socket
import ssl
import sys
from pathlib import Path

from tests.bench.tls.counts import Page

_READ = 64 * 1024
_END = b"\r\n.\r\n"
_GREETING = b"220 sink.example.net ESMTP\r\n"
_OK = b"250 2.0.0 ok\r\n"
_FIRST = b"530 5.7.0 STARTTLS first\r\n"
_BYE = b"221 2.0.0 bye\r\n"
_EHLO = b"250-sink.example.net\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE\r\n250-ENHANCEDSTATUSCODES\r\n"
_GO = b"220 2.0.0 go\r\n"
_DATA = b"354 go on\r\n"


class _Connection:
    """One client, in one of four states: clear, handshake, commands, content."""

    def __init__(self, sock: socket.socket, sink: "_Sink") -> None:
        self.sock = sock
        self._sink = sink
        self._rest = b""  # of a command that is not all there; in content: its last octets
        self._size = 0  # of this message so far
        self._in_tls = self._in_content = False
        self._shaking = self._over = False
        self.counted = False

    def take(self) -> bool:
        """Read what there is, and answer it; False when the session is over."""
        try:
            if self._shaking:
                return self._shake_hands()
            # Longer than a TLS record: nothing stays inside OpenSSL, of which epoll knows nothing.
            octets = self.sock.recv(_READ)
            if not octets:
                return False
            replies = self._answer(octets)
            if replies and self.sock.send(replies) != len(replies):
                return False
            return self._begin_tls() if replies is _GO else not self._over
        except (ssl.SSLWantReadError, BlockingIOError):
            return True
        except OSError:
            return False

    def _begin_tls(self) -> bool:
        self.sock = self._sink.context.wrap_socket(
            self.sock, server_side=True, do_handshake_on_connect=False
        )
        # RFC 3207 §4.2: nothing that was said in clear holds any more.
        self._rest = b""
        self._shaking = self._in_tls = True
        return True

    def _shake_hands(self) -> bool:
        assert isinstance(self.sock, ssl.SSLSocket)
        self.sock.do_handshake()
        self._shaking = False
        self._sink.handshakes += 1
        self._sink.resumed += bool(self.sock.session_reused)
        return True

    def _answer(self, octets: bytes) -> bytes:
        replies = b""
        while octets:
            if self._in_content:
                octets, reply = self._take_content(octets)
            else:
                line, end, octets = (self._rest + octets).partition(b"\r\n")
                if not end:
                    self._rest = line
                    break
                self._rest = b""
                reply = self._take_line(line[:4].upper())
            # One reply by itself stays the object that it is: see ``take``.
            replies = replies + reply if replies else reply
        return replies

    def _take_line(self, verb: bytes) -> bytes:
        match verb:
            case b"DATA" if self._in_tls:
                self._in_content = True
                self._rest = b"\r\n"  # an empty message ends with this and its dot
                self._size = -2
                return _DATA
            case b"EHLO":
                self._sink.count_session(self)
                return _EHLO + (b"250 HELP\r\n" if self._in_tls else b"250 STARTTLS\r\n")
            case b"STAR" if not self._in_tls:
                return _GO
            case b"QUIT":
                self._over = True
                return _BYE
            case _:
                return _OK if self._in_tls else _FIRST

    def _take_content(self, octets: bytes) -> tuple[bytes, bytes]:
        """Take content; return what follows it, and the reply when it has come to its end."""
        octets = self._rest + octets
        end = octets.find(_END)
        if end < 0:
            self._rest = octets[-len(_END) + 1 :]
            self._size += len(octets) - len(self._rest)
            return b"", b""
        self._in_content = False
        self._rest = b""
        self._sink.count_message(self._size + end + 2)
        return octets[end + len(_END) :], _OK


class _Sink:
    """All connections, and the counts."""

    def __init__(self, context: ssl.SSLContext, page: Page) -> None:
        self.context = context
        self.handshakes = self.resumed = 0
        self._page = page
        self._sessions = self._messages = self._octets = self._longest = 0
        self._open = self._most_open = 0
        self._connections: dict[int, _Connection] = {}
        self._poll = select.epoll()

    def count_session(self, connection: _Connection) -> None:
        """A client has said EHLO, maybe once more."""
        if not connection.counted:
            connection.counted = True
            self._sessions += 1
            self._open += 1
            self._most_open = max(self._most_open, self._open)

    def count_message(self, octets: int) -> None:
        """A final dot has arrived."""
        self._messages += 1
        self._octets += octets
        self._longest = max(self._longest, octets)

    def serve(self, listener: socket.socket) -> None:
        """Until standard input ends."""
        stdin, accepting = sys.stdin.fileno(), listener.fileno()
        self._poll.register(stdin, select.EPOLLIN)
        self._poll.register(accepting, select.EPOLLIN)
        while True:
            for number, _ in self._poll.poll():
                if number == stdin:
                    return
                if number == accepting:
                    self._accept(listener)
                elif not self._connections[number].take():
                    self._end(number)
            self._page.note(
                self._sessions, self.handshakes, self.resumed, self._messages,
                self._octets, self._longest, self._open, self._most_open,
            )  # fmt: skip

    def _accept(self, listener: socket.socket) -> None:
        sock, _ = listener.accept()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections[sock.fileno()] = _Connection(sock, self)
        self._poll.register(sock.fileno(), select.EPOLLIN)
        sock.send(_GREETING)

    def _end(self, number: int) -> None:
        connection = self._connections.pop(number)
        self._poll.unregister(number)
        connection.sock.close()
        self._open -= connection.counted


def main() -> None:
    """Serve."""
    port, chain, key, counts = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(chain, key)
    page = Page(Path(counts))
    with socket.create_server(("127.0.0.1", int(port)), backlog=1000) as listener:
        _Sink(context, page).serve(listener)


if __name__ == "__main__":
    main()
