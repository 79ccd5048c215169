"""Takes a report apart, as far as it is a report: its outermost parts, and no further.

``relay.mime.read_message`` would go into the original as well, and refuse what is ambiguous there. But
the original is what somebody complains about: often cut off after its head, or in the middle of a
part. Here it is octets, and of parts that cannot be read the others count all the same.
"""

from collections.abc import Iterator

from relay.mime.fields import fields
from relay.mime.head import describe
from relay.mime.limits import Unreadable
from relay.mime.part import Part
from relay.mime.transfer import decode

_HEAD_OCTETS = 256 * 1024  # of a part's head
_MOST_PIECES = 50  # three are what reports have
_DEPTH = 3  # multiparts in multiparts: what a mailing list or a scanner puts around it


class Pieces:
    """A message, and the parts that it has outside of messages in it."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._found: list[Part] = []
        # Who passes mail on from a file leaves the line there that divides it from others (RFC 4155).
        start = octets.find(b"\r\n") + 2 if octets.startswith(b"From ") else 0
        self.root = self._describe(start, len(octets))
        if self.root is not None:
            self._divide(self.root, _DEPTH)

    @property
    def report_type(self) -> str:
        """What the message says that it reports (RFC 6522 §3), in lower case."""
        root = self.root
        return root.parameters.get("report-type", "").strip().lower() if root is not None else ""

    def find(self, *content_types: str) -> Part | None:
        """Return the first part of one of these types."""
        return next((part for part in self._found if part.content_type in content_types), None)

    def read(self, part: Part, limit: int) -> bytes:
        """Return a part's content without its transfer encoding: at most ``limit`` octets."""
        return decode(self._octets, part, limit)

    def read_head(self, part: Part | None) -> bytes:
        """Return the head of the message that a part holds, or of which it is the head."""
        if part is None:
            return b""
        content = self.read(part, _HEAD_OCTETS).lstrip(b"\r\n")
        return content[: find_blank(content, 0, len(content))]

    def _describe(self, start: int, end: int) -> Part | None:
        """Return a part by what its head says; None when that cannot be read."""
        body = find_blank(self._octets, start, min(end, start + _HEAD_OCTETS))
        try:
            said = describe(self._octets[start:body], "text/plain")
        except Unreadable:
            return None
        return Part(
            said.content_type, {**said.parameters, "boundary": said.boundary.decode("latin-1")},
            said.disposition, "", said.encoding, start, body, end,
        )  # fmt: skip

    def _divide(self, part: Part, depth: int) -> None:
        """Find the parts of a multipart; those of multiparts in it count as its own."""
        if not part.content_type.startswith("multipart/"):
            self._found.append(part)
            return
        if not depth:
            return
        delimiter = b"\r\n--" + part.parameters["boundary"].encode("latin-1")
        for start, end in self._find_sections(part, delimiter):
            if len(self._found) >= _MOST_PIECES:
                return
            if (inner := self._describe(start, end)) is not None:
                self._divide(inner, depth - 1)

    def _find_sections(self, part: Part, delimiter: bytes) -> Iterator[tuple[int, int]]:
        """Yield where the parts between the delimiters are (RFC 2046 §5.1.1)."""
        opened, count = -1, 0
        # The CRLF in front of the first may be the one that ends the head.
        at = max(0, part.body - 2)
        while count < _MOST_PIECES and (at := self._octets.find(delimiter, at, part.end)) >= 0:
            line_end = self._octets.find(b"\r\n", at + len(delimiter), part.end)
            line_end = part.end if line_end < 0 else line_end
            rest = self._octets[at + len(delimiter) : min(line_end, at + 1000)].rstrip(b" \t")
            if rest in (b"", b"--"):
                if opened >= 0:
                    yield opened, max(opened, at)
                    count += 1
                if rest:
                    return
                opened = min(line_end + 2, part.end)
            at = line_end
        if opened >= 0 and count < _MOST_PIECES:
            yield opened, part.end  # cut off on the way


def find_blank(octets: bytes, start: int, end: int) -> int:
    """Return where the body begins: behind the first empty line, or at ``end`` without one."""
    if octets.startswith(b"\r\n", start, end):
        return start + 2
    at = octets.find(b"\r\n\r\n", start, end)
    return at + 4 if at >= 0 else end


def read_fields(head: bytes) -> dict[str, list[bytes]]:
    """Return the values of fields by their names in lower case, trimmed, in their order."""
    found: dict[str, list[bytes]] = {}
    for name, value in fields(head):
        found.setdefault(name.decode("latin-1").lower(), []).append(value.strip())
    return found


def show(octets: bytes, limit: int = 500) -> str:
    """Return octets of a stranger for an event, not more of them than anybody reads."""
    return octets[:limit].decode("utf-8", "replace")
