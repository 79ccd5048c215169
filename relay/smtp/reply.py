"""What a server answers: one reply, and the parser that finds replies in a stream of bytes.

RFC 5321 §4.2 gives the form: three digits, then a blank (last line) or a hyphen (more lines
follow), then text. Servers in the wild leave out the text and its blank, end lines with a bare
LF, write Latin-1, and invent codes; all of that is understood here. What decides is the first
digit (§4.3.2: a client acts on the severity alone when it does not know the code).

What is not understood is a ``RemoteProtocolError``, always the same one for the same bytes,
however they were split on the way. After it the stream has no meaning any more: nobody knows
which answer belongs to which command, and a guess could take a refusal for an acceptance.
"""

from dataclasses import dataclass

# RFC 5321 §4.5.3.1.5 allows a reply line 512 octets; four times that, for those that cannot count.
MAX_LINE = 2048
# The longest honest replies are EHLO's (about 20 lines). A peer can make us hold no more than this.
MAX_LINES = 256
MAX_REPLY = 64 * 1024
# Longer texts than this serve nobody who reads a log or a bounce.
MAX_TEXT = 1024

# A dictionary instead of int(): int() also takes b" 25", b"+25" and b"2_5".
_CODES = {b"%d" % code: code for code in range(200, 600)}


class RemoteProtocolError(Exception):
    """The peer sent what SMTP does not allow; the connection is of no further use."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply: its code, and the text of each line without code, separator and line end."""

    code: int
    lines: tuple[bytes, ...]

    @property
    def severity(self) -> int:
        """The first digit: 2 done, 3 go on, 4 not now, 5 no (RFC 5321 §4.2.1)."""
        return self.code // 100

    @property
    def status(self) -> str:
        """The enhanced status "x.y.z" (RFC 3463 §2), or "" when there is none to believe.

        RFC 2034 §4: its class must be that of the reply code. Where the two disagree, the code
        is what the peer acted on, and the status is somebody's copied text.
        """
        word = self.lines[0][:11].partition(b" ")[0]
        parts = word.split(b".")
        if len(parts) != 3 or parts[0] != b"%d" % self.severity or self.severity == 3:
            return ""
        if all(0 < len(part) <= 3 and part.isdigit() for part in parts):
            return word.decode("ascii")
        return ""

    @property
    def text(self) -> str:
        """All lines joined by a blank, fit to print: no control characters, at most 1024 long."""
        text = b" ".join(self.lines).decode("utf-8", "replace")
        if not text.isprintable():  # also finds line separators and changes of direction
            text = "".join([c if c.isprintable() else " " if c == "\t" else "?" for c in text])
        return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


class ReplyParser:
    """Finds replies in bytes that arrive in any portions.

    ``feed`` what was received, then call ``next_reply`` until it returns None. Every octet is
    looked at once: a line that trickles in is not searched from its start each time.
    """

    __slots__ = ("_buffer", "_code", "_error", "_lines", "_searched", "_size", "_start")

    def __init__(self) -> None:
        self._buffer = b""
        self._start = 0  # of the first line not yet read
        self._searched = 0  # no line end before this
        self._code = b""  # of the reply under way
        self._lines: list[bytes] = []
        self._size = 0
        self._error: RemoteProtocolError | None = None

    def feed(self, data: bytes) -> None:
        """Add what was received."""
        # What is left over is a part of one line, so this copies little; and bytes, unlike a
        # bytearray, give slices that can be kept.
        self._buffer = self._buffer[self._start :] + data
        self._searched -= self._start
        self._start = 0

    @property
    def is_empty(self) -> bool:
        """True when no octet waits to be read and no reply is half read."""
        return self._start == len(self._buffer) and not self._lines

    def next_reply(self) -> Reply | None:
        """Return the next whole reply, or None when more bytes are needed.

        Raises RemoteProtocolError, and from then on always.
        """
        if self._error is not None:
            raise self._error
        while (line := self._next_line()) is not None:
            if self._add(line):
                reply = Reply(_CODES[self._code], tuple(self._lines))
                self._code, self._lines, self._size = b"", [], 0
                return reply
        return None

    def _next_line(self) -> bytes | None:
        start = self._start
        # A bare LF ends a line too. That is dangerous in content, where a line end that one side
        # sees and the other does not lets a sender write into somebody else's dialogue. Replies
        # have one author, who can make as many of them as he likes in any case, and nothing of
        # ours that he could be echoing has an LF in it (``extensions`` sees to that).
        end = self._buffer.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._buffer)
            if self._searched - start >= MAX_LINE:
                raise self._fail(f"reply line longer than {MAX_LINE} octets")
            return None
        self._start = self._searched = end + 1
        if end + 1 - start > MAX_LINE:
            raise self._fail(f"reply line longer than {MAX_LINE} octets")
        if end > start and self._buffer[end - 1] == 0x0D:
            end -= 1
        return self._buffer[start:end]

    def _add(self, line: bytes) -> bool:
        """Take one line into the reply under way; True when it was the reply's last."""
        code, separator = line[:3], line[3:4]
        if code not in _CODES or separator not in (b" ", b"-", b""):
            raise self._fail(f"not an SMTP reply: {line[:80]!r}")
        if self._lines and code != self._code:
            raise self._fail(f"codes {self._code!r} and {code!r} in one reply")
        self._code = code
        self._lines.append(line[4:])
        self._size += len(line)
        if len(self._lines) > MAX_LINES or self._size > MAX_REPLY:
            raise self._fail(f"reply longer than {MAX_LINES} lines or {MAX_REPLY} octets")
        return separator != b"-"

    def _fail(self, text: str) -> RemoteProtocolError:
        self._error = RemoteProtocolError(text)
        return self._error
