"""A sink that looks at what it gets: ``python -m tests.bench.receiver``, a process of its own.

smtp-sink counts messages; the memory part wants to know that 36 MB arrived, and which. The first
line on standard output is the port; then a line for each message: its mark, its octets from the
mark on, their SHA-256.

It offers no PIPELINING, so nothing follows the final dot before it is answered, and the senders
in ``tests.bench.memory`` never begin a line with a dot: the end is where CRLF.CRLF is the end of
what has arrived.
"""

import hashlib
import socket
import sys
import threading

MARK = b"X-Bench: "
_END = b"\r\n.\r\n"


def main() -> None:
    """Serve until killed."""
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as listener:
        _say(str(listener.getsockname()[1]))
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_serve, args=(connection,), daemon=True).start()


def _serve(connection: socket.socket) -> None:
    with connection, connection.makefile("rb") as lines:
        connection.sendall(b"220 receiver.example.net ESMTP\r\n")
        while line := lines.readline():
            verb = line[:4].upper().strip()
            if verb == b"DATA":
                connection.sendall(b"354 go on\r\n")
                # ``lines`` holds nothing back here: the client waits for the 354.
                _say(_read_message(connection))
            connection.sendall(_REPLIES.get(verb, b"250 2.0.0 ok\r\n"))
            if verb == b"QUIT":
                return


_REPLIES = {
    b"EHLO": b"250-receiver.example.net\r\n250-ENHANCEDSTATUSCODES\r\n250 8BITMIME\r\n",
    b"QUIT": b"221 2.0.0 bye\r\n",
}


def _read_message(connection: socket.socket) -> str:
    """Read up to the final dot; return the line that describes the message."""
    head = b""
    while MARK not in head or b"\r\n" not in head.partition(MARK)[2]:
        head += _receive(connection)
    held = MARK + head.partition(MARK)[2]
    name = held[len(MARK) :].partition(b"\r\n")[0].decode("ascii")
    digest, octets = hashlib.sha256(), 0
    while not held.endswith(_END):
        # The last five octets may be the beginning of the end.
        digest.update(held[:-5])
        octets += len(held) - 5
        held = held[-5:] + _receive(connection)
    digest.update(held[:-3])
    return f"{name} {octets + len(held) - 3} {digest.hexdigest()}"


def _receive(connection: socket.socket) -> bytes:
    data = connection.recv(1 << 18)
    if not data:
        raise ConnectionError("closed within a message")
    return data


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
