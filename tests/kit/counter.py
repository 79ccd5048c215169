"""A sink that counts: ``python -m tests.kit.counter FILE PAUSE PORT ADDRESS ...``, a process of its own.

It takes every message, ``PAUSE`` seconds after its final dot, and appends a record to FILE for
each connection that begins or ends and for each final dot: see ``tests.kit.tally``, which starts
it and reads them. A message may say when it was sent, ``X-Sent: SECONDS`` (of the monotonic clock,
which all processes of a machine share). It ends when its standard input does.

One thread around one selector. In each round everything that has arrived on connections is taken,
their ends included, before new ones are accepted. So a client that closes a connection before it
opens the next is never seen with two: when the second has arrived, so has the end of the first.
"""

import heapq
import os
import selectors
import socket
import struct
import sys
import time

OPENED, CLOSED, MESSAGE = b"o", b"c", b"."
# Kind, when, when it was sent (0: it does not say), the client's address (IPv4).
RECORD = struct.Struct("=cdd4s")

_SENT = b"\r\nX-Sent: "
_BYE = b"221 2.0.0 bye\r\n"
_REPLIES = {
    b"EHLO": b"250-counter.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
    b"DATA": b"354 go on\r\n",
    b"QUIT": _BYE,
}
_OK = b"250 2.0.0 ok\r\n"
_READ = 64 * 1024


class _Connection:
    """One client: what it has said and was not understood yet, and what it waits for."""

    def __init__(self, sock: socket.socket, address: str, sink: "_Sink") -> None:
        self.sock = sock
        self.address = socket.inet_aton(address)
        self._sink = sink
        self._unread = bytearray()
        self._in_content = False
        self._paused = False

    def take(self) -> None:
        """Read all there is, and answer it."""
        ended = False
        try:
            while octets := self.sock.recv(_READ):
                self._unread += octets
            ended = True
        except BlockingIOError:
            pass
        except OSError:
            ended = True
        if not self._answer() or ended:
            self._sink.end(self)

    def resume(self) -> None:
        """The pause after a final dot is over."""
        self._paused = False
        if self.sock.fileno() >= 0 and not self._answer(_OK):
            self._sink.end(self)

    def _answer(self, replies: bytes = b"") -> bool:
        """Answer what was said, up to a final dot that has to wait; False: it is over.

        ``replies``: what is due already.
        """
        while not self._paused:
            reply = self._take_content() if self._in_content else self._take_line()
            if reply is None:
                break
            replies += reply
        return self._say(replies) and not replies.endswith(_BYE)

    def _take_line(self) -> bytes | None:
        """Take a command; return the reply, None when it is not all there."""
        line, end, rest = self._unread.partition(b"\n")
        if not end:
            return None
        self._unread = rest
        verb = bytes(line[:4]).upper()
        if verb == b"DATA":
            self._in_content = True
            self._unread[:0] = b"\r\n"  # an empty message ends with this and its dot
        return _REPLIES.get(verb, _OK)

    def _take_content(self) -> bytes | None:
        """Take a message; return the reply (b"": later), None when it is not all there."""
        end = self._unread.find(b"\r\n.\r\n")
        if end < 0:
            return None
        begin = self._unread.find(_SENT, 0, end)
        sent = 0.0
        if begin >= 0:
            begin += len(_SENT)
            sent = float(self._unread[begin : self._unread.index(b"\r\n", begin)])
        del self._unread[: end + 5]
        self._in_content = False
        self._sink.note(MESSAGE, self, sent)
        self._paused = self._sink.wait(self)
        return b"" if self._paused else _OK

    def _say(self, octets: bytes) -> bool:
        try:
            return not octets or self.sock.send(octets) == len(octets)
        except OSError:  # gone, or it does not read: our clients do
            return False


class _Sink:
    """All connections, and the file of records."""

    def __init__(self, file: int, pause: float) -> None:
        self._file = file
        self._pause = pause
        self._selector = selectors.DefaultSelector()
        self._listeners: list[socket.socket] = []
        self._records: list[bytes] = []
        self._waiting: list[tuple[float, int, _Connection]] = []  # a heap
        self._waits = 0

    def listen(self, address: str, port: int) -> None:
        listener = socket.create_server((address, port), backlog=1000)
        listener.setblocking(False)
        self._listeners.append(listener)
        self._selector.register(listener, selectors.EVENT_READ)

    def serve(self) -> None:
        """Serve until standard input ends: whoever started us is gone, or wants us to be."""
        self._selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            ready = [key for key, _ in self._selector.select(self._until_resume())]
            if any(key.fileobj is sys.stdin for key in ready):
                return
            for key in ready:
                if key.data is not None and key.data.sock.fileno() >= 0:
                    key.data.take()
            self._resume()
            for key in ready:
                if key.data is None:
                    assert isinstance(key.fileobj, socket.socket)
                    self._accept(key.fileobj)
            if self._records:
                os.write(self._file, b"".join(self._records))
                self._records.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, (address, _) = listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            connection = _Connection(sock, address, self)
            self.note(OPENED, connection)
            self._selector.register(sock, selectors.EVENT_READ, connection)
            sock.send(b"220 counter.test ESMTP\r\n")

    def end(self, connection: _Connection) -> None:
        self._selector.unregister(connection.sock)
        connection.sock.close()
        self.note(CLOSED, connection)

    def note(self, kind: bytes, connection: _Connection, sent: float = 0.0) -> None:
        self._records.append(RECORD.pack(kind, time.monotonic(), sent, connection.address))

    def wait(self, connection: _Connection) -> bool:
        """Let a connection resume after the pause; False when there is none."""
        if self._pause <= 0:
            return False
        self._waits += 1  # no two entries are equal up to here, so connections are not compared
        heapq.heappush(self._waiting, (time.monotonic() + self._pause, self._waits, connection))
        return True

    def _until_resume(self) -> float | None:
        return max(0.0, self._waiting[0][0] - time.monotonic()) if self._waiting else None

    def _resume(self) -> None:
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            heapq.heappop(self._waiting)[2].resume()


def main() -> None:
    """Listen, and serve."""
    path, pause, port, *addresses = sys.argv[1:]
    sink = _Sink(os.open(path, os.O_WRONLY | os.O_APPEND), float(pause))
    for address in addresses:
        sink.listen(address, int(port))
    sink.serve()


if __name__ == "__main__":
    main()
