"""Finds the parts of a message: who begins where.

Boundaries are looked for from outside to inside, each only within the part that it divides. So the
outermost always counts, as RFC 2046 §5.1.2 says, and at each depth every octet is looked at once.
A multipart with the boundary of one around it has none of its own, and so cannot be read.

Lines that begin like a boundary and go on (``--abc`` and ``--abcd``) are boundaries to some readers
and text to others (RFC 2046 §5.1.1 allows the first). They are suspects, until a part further in
turns out to have exactly that boundary; one that stays makes the message unreadable.
"""

from relay.mime.head import ENCODED, Description, describe
from relay.mime.limits import DEFAULT, Limits, Unreadable
from relay.mime.part import Part

_MESSAGES = frozenset({"message/rfc822", "message/global"})


def read_message(octets: bytes, limits: Limits = DEFAULT) -> Part:
    """Take a message apart, down to messages in it that have no transfer encoding.

    Raises Unreadable when it has more of something than ``limits`` allow, or when readers differ
    about what it is.
    """
    _check_octets(octets)
    reader = _Reader(octets, limits)
    part = reader.read(0, len(octets), "text/plain", 0)
    if reader.suspects:
        raise Unreadable("a line is a boundary to some readers and not to others")
    return part


def is_message(part: Part) -> bool:
    """Tell whether a part is a message of its own."""
    return part.content_type in _MESSAGES


def _check_octets(octets: bytes) -> None:
    ends = octets.count(b"\r\n")
    if octets.count(b"\r") != ends or octets.count(b"\n") != ends:
        raise Unreadable("it has a bare CR or a bare LF: a line end to some readers")
    if b"\0" in octets:
        raise Unreadable("it has a NUL: the end of a text to some readers")


class _Reader:
    """Reads one message; counts what it finds."""

    def __init__(self, octets: bytes, limits: Limits) -> None:
        self._octets = octets
        self._limits = limits
        self._count = 0
        self.suspects: set[int] = set()  # where lines begin that are perhaps boundaries

    def read(self, start: int, end: int, default: str, depth: int) -> Part:
        """Read a part. ``depth``: how many it is in; ``default``: its type if it does not say one."""
        self._count += 1
        if self._count > self._limits.parts:
            raise Unreadable(f"it has more than {self._limits.parts} parts")
        if depth > self._limits.depth:
            raise Unreadable(f"it has parts in parts, more than {self._limits.depth} deep")
        body = self._find_body(start, end)
        said = describe(self._octets[start:body], default)
        parts: tuple[Part, ...] = ()
        if said.boundary:
            parts = self._divide(body, end, said, depth)
        elif said.content_type in _MESSAGES and said.encoding not in ENCODED:
            parts = (self.read(body, end, "text/plain", depth + 1),)
        return Part(
            said.content_type,
            said.parameters,
            said.disposition,
            said.names[0] if said.names else "",
            said.encoding,
            start,
            body,
            end,
            parts,
            said.names,
        )

    def _find_body(self, start: int, end: int) -> int:
        """Return where the body begins: behind the first empty line, or at the end without one."""
        if self._octets.startswith(b"\r\n", start, end):
            return start + 2
        longest = min(end, start + self._limits.head)
        at = self._octets.find(b"\r\n\r\n", start, longest)
        if at >= 0:
            return at + 4
        if longest < end:
            raise Unreadable(f"a head has more than {self._limits.head} octets")
        return end

    def _divide(self, body: int, end: int, said: Description, depth: int) -> tuple[Part, ...]:
        """Return the parts of a multipart."""
        # RFC 2046 §5.1.5
        default = "message/rfc822" if said.content_type == "multipart/digest" else "text/plain"
        return tuple(
            self.read(start, stop, default, depth + 1)
            for start, stop in self._find_sections(body, end, b"\r\n--" + said.boundary)
        )

    def _find_sections(self, body: int, end: int, delimiter: bytes) -> list[tuple[int, int]]:
        """Return where the parts between the delimiters are."""
        sections: list[tuple[int, int]] = []
        opened: int | None = None  # where the present part begins
        closed, ends = False, 0
        # The CRLF in front of the first may be the one that ends the head.
        at = max(0, body - 2)
        while (at := self._octets.find(delimiter, at, end)) >= 0:
            after = at + len(delimiter)
            line_end = self._octets.find(b"\r\n", after, end)
            line_end = end if line_end < 0 else line_end
            rest = self._octets[after : min(line_end, after + 1000)].rstrip(b" \t")
            if rest not in (b"", b"--"):
                self._suspect(at)
            else:
                self.suspects.discard(at)
                if opened is not None:
                    sections.append((opened, max(opened, at)))
                if closed and not rest:
                    # To some readers nothing comes after the end, to others more parts do.
                    raise Unreadable("a part stands behind the end of its multipart")
                closed = closed or bool(rest)
                ends += closed
                opened = None if closed else min(line_end + 2, end)
                if len(sections) + ends > self._limits.parts:
                    raise Unreadable(f"it has more than {self._limits.parts} parts")
            at = line_end
        if opened is not None:
            sections.append((opened, end))  # no closing delimiter: cut off on the way
        if not sections and not closed:
            raise Unreadable("a multipart's boundary is not in it")
        return sections

    def _suspect(self, at: int) -> None:
        self.suspects.add(at)
        if len(self.suspects) > 2 * self._limits.parts:
            raise Unreadable("many lines are boundaries to some readers and not to others")
