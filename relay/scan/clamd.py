"""Asking ClamAV: clamd(8), INSTREAM, over TCP or a Unix socket; a connection for each message.

    we:     zINSTREAM NUL, then chunks (4 octets of length, that many octets), then a length of 0
    clamd:  "stream: OK" NUL, "stream: NAME FOUND" NUL or "... ERROR" NUL

clamd has limits of its own. What is longer than its StreamMaxLength it breaks off with an error. What
is longer than MaxFileSize or MaxScanSize it does not look at (or not to the end), and says OK; with
"AlertExceedsMax yes" it says FOUND instead. A scanner's ``max_message`` should not be above these.
"""

from collections.abc import Iterator

from relay.errors import HostUnreachable, PeerClosed
from relay.net.neighbour import Neighbour
from relay.net.stream import Stream
from relay.scan.inquiry import Inquiry, Scan, ScanFailed, ScanRefused, show

_COMMAND = b"zINSTREAM\0"
_END = bytes(4)
_CHUNK = 256 * 1024  # octets; copied once each, to stand behind their length
_MAX_REPLY = 4096  # octets; real ones have fewer than 200
_SHOWN = 200  # characters
_HEAD, _FOUND = "stream: ", " FOUND"


class Clamd:
    """One clamd. Any number of tasks may ask at the same time."""

    def __init__(self, place: Neighbour) -> None:
        self._place = place

    async def ask(self, inquiry: Inquiry) -> Scan:
        """Show a message. Raises ScanFailed; the deadline is the caller's."""
        try:
            stream = await self._place.connect()
            try:
                return read_reply(await _exchange(stream, inquiry.message))
            finally:
                stream.close()
        except (HostUnreachable, PeerClosed) as error:
            raise ScanFailed(str(error)) from error

    async def aclose(self) -> None:
        """There is nothing to close: no connection outlives its message."""


async def _exchange(stream: Stream, message: bytes) -> bytes:
    """Return the reply, without its NUL. Raises PeerClosed, ScanFailed."""
    try:
        for piece in frame(message):
            await stream.send(piece)
    except PeerClosed as hung_up:
        # Too much for it: it says so, and closes without having read the rest. Its words are here
        # already, and worth more than "broken pipe".
        try:
            return await _receive(stream)
        except (PeerClosed, ScanFailed):
            raise hung_up from None
    return await _receive(stream)


async def _receive(stream: Stream) -> bytes:
    reply = b""
    while not reply.endswith(b"\0"):
        more = await stream.receive(_MAX_REPLY)
        if not more:
            # Without its NUL the reply may be the beginning of another one.
            raise PeerClosed("clamd closed the connection without an answer")
        reply += more
        if len(reply) > _MAX_REPLY:
            raise ScanFailed(f"more than {_MAX_REPLY} octets are not an answer of clamd")
    return reply[:-1]


def frame(message: bytes) -> Iterator[bytes]:
    """Yield what is sent for a message, in pieces."""
    view = memoryview(message)
    head = _COMMAND
    for start in range(0, len(view), _CHUNK):
        chunk = view[start : start + _CHUNK]
        yield b"".join((head, len(chunk).to_bytes(4), chunk))
        head = b""
    yield head + _END


def read_reply(reply: bytes) -> Scan:
    """Read a reply without its NUL. Raises ScanFailed, ScanRefused."""
    text = reply.decode("latin-1")
    if text == f"{_HEAD}OK":
        return Scan("clean")
    name = text.removeprefix(_HEAD).removesuffix(_FOUND)
    is_found = len(name) == len(text) - len(_HEAD) - len(_FOUND)
    if is_found and name.isprintable() and name.strip():
        return Scan("infected", details=show(name, _SHOWN))
    if text == "INSTREAM size limit exceeded. ERROR":
        raise ScanRefused("the message is larger than clamd's StreamMaxLength")
    if text.endswith(" ERROR"):
        raise ScanFailed(f"clamd says: {show(text, _SHOWN)}")
    raise ScanFailed(f"not an answer of clamd: {show(text, _SHOWN)!r}")
