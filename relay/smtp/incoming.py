"""The content of a message on its way in: cut out of the receive buffer, and judged.

DATA and BDAT differ in how the end is known, by a terminator or by counting, and in nothing else.
A message that is void (too big, or with line ends that could smuggle another one) is read to its
end all the same, without being handed on: only there does the peer look for a reply.
"""

from relay.smtp.data import DataReader, LineEndingRepair, LineEndings
from relay.smtp.events import Aborted, Content, ServerSettings

# Content is handed on in pieces of at least this many octets, a small message in one.
PIECE = 256 * 1024


class Incoming:
    """Takes the content of one message after another.

    ``start_data`` or ``start_chunk``, then ``take`` after each arrival of octets while there is
    ``more`` to come. What comes is the ``last`` of the message, or a chunk with others to follow.
    """

    __slots__ = (
        "_endings", "_left", "_limit", "_reader", "_repair", "_repairs",
        "fault", "last", "more", "size",
    )  # fmt: skip

    def __init__(self, settings: ServerSettings) -> None:
        self._limit = settings.max_message
        self._repairs = settings.repair_line_endings
        self._reader = DataReader()

    def start_data(self, buffer: bytearray) -> None:
        """Begin a message after ``354``. Part of it may be in the buffer already."""
        self._start()
        self._reader.begin(buffer)
        self._left: int | None = None  # octets of the chunk to come; None: up to the terminator
        self.last = self.more = True

    def start_chunk(self, length: int, *, first: bool, last: bool) -> None:
        """Go on with the next BDAT chunk of a message, or begin one with the first."""
        if first:
            self._start()
        self._left = length
        self.last = last
        self.more = True  # so that a chunk of no octets is taken, too

    def take(self, buffer: bytearray) -> Content | Aborted | None:
        """Take what has arrived from the buffer, in pieces that are worth it.

        Returns Aborted once, when the message becomes void: ``fault`` has the reply from then on.
        """
        if self._left is None:
            piece, ended = self._reader.read(buffer, PIECE)
            self.more = not ended
        else:
            piece = self._take_of_chunk(buffer, self._left)
        if self.more and not piece:
            return None
        self.size += len(piece)
        return self._judge(piece, last=self.last and not self.more)

    def skip(self, buffer: bytearray) -> None:
        """Drop what has arrived of a chunk that nobody wants."""
        assert self._left is not None
        length = min(self._left, len(buffer))
        del buffer[:length]
        self._left -= length
        self.more = self._left > 0

    @property
    def hopeless(self) -> bool:
        """True when the message is so big that its end is not worth waiting for.

        Reading a void message is a courtesy (the peer gets to read the reply), and has an end.
        """
        return self.size > 2 * self._limit

    def _start(self) -> None:
        self.size = 0
        self.fault: tuple[int, str, str] | None = None  # the reply: code, status, text
        self._endings = LineEndings()
        self._repair = LineEndingRepair() if self._repairs else None

    def _take_of_chunk(self, buffer: bytearray, left: int) -> bytes:
        length = min(left, len(buffer))
        if length < left and length < PIECE:
            return b""
        piece = bytes(buffer[:length])
        del buffer[:length]
        self._left = left - length
        self.more = length < left
        return piece

    def _judge(self, piece: bytes, *, last: bool) -> Content | Aborted | None:
        if self.fault is not None:
            return None
        if self.size > self._limit:
            self.fault = (552, "5.3.4", f"Message too big: at most {self._limit} octets")
        elif self._repair is not None:
            piece = self._repair.repair(piece, last=last)
        else:
            self._endings.check(piece)
            if last and (text := self._endings.fault):
                # Only now: between pieces a CR may still wait for its LF.
                self.fault = (550, "5.6.0", text)
        if self.fault is not None:
            return Aborted(self.fault[2])
        return Content(piece) if piece else None
