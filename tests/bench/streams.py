"""``python -m tests.bench.streams``: CPU of a round trip through our Stream and trio's SocketStream.

The server's side of a bare dialogue, NOOP and its reply, with a client in a process of its own.
"""

import socket
import subprocess
import sys
import time

import trio

from relay.net.stream import Stream

_ROUND_TRIPS = 20_000
_REPLY = b"250 OK\r\n"
_CLIENT = """
import socket, sys
peer = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
for _ in range(int(sys.argv[2])):
    peer.sendall(b"NOOP\\r\\n")
    peer.recv(100)
"""


async def _answer(sock: socket.socket) -> None:
    stream = Stream(sock)
    while await stream.receive():
        await stream.send(_REPLY)
    stream.close()


async def _answer_as_trio(sock: socket.socket) -> None:
    async with trio.SocketStream(trio.socket.from_stdlib_socket(sock)) as stream:
        while await stream.receive_some(65536):
            await stream.send_all(_REPLY)


def main() -> None:
    """Print microseconds of CPU for a round trip, three times each, in turn."""
    for answer in (_answer, _answer_as_trio) * 3:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            argv = [sys.executable, "-c", _CLIENT, str(port), str(_ROUND_TRIPS)]
            with subprocess.Popen(argv):
                sock, _ = listener.accept()
                before = time.process_time()
                trio.run(answer, sock)
                spent = time.process_time() - before
        sys.stdout.write(f"{answer.__name__:16} {spent / _ROUND_TRIPS * 1e6:6.1f} us\n")


if __name__ == "__main__":
    main()
