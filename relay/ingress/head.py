"""The head of a message, as far as the ingress reads it: the values of some header fields.

Pure. What stands in a head is the sender's, and stays as it is.
"""

import re
from collections.abc import Iterator

# Octets at the beginning of a message in which fields are looked for. Gmail's own heads are below
# 20 KiB; a head without end must not be searched to its end.
HEAD_OCTETS = 64 * 1024
# Of a Message-ID, octets. RFC 5322 §2.1.1 would allow a line of 998; nobody needs more to find it again.
MESSAGE_ID_OCTETS = 250

# As almost all of them are, on one line, all at once; else only where it begins. A search with `re` takes
# a third of what `find` takes for so long a needle.
_MESSAGE_ID = re.compile(rb"\nmessage-id:(?:[ \t]*([!-~]{1,%d})\r\n(?![ \t]))?" % MESSAGE_ID_OCTETS)
# A field's end: a CRLF that no blank follows (RFC 5322 §2.2.3).
_END = re.compile(rb"\r\n(?![ \t])")


def cut_head(beginning: bytes) -> bytes:
    """Return the head in lower case, up to the first empty line (RFC 5322 §2.1) or the end.

    Who searches it knows at once that a field is not there, which is so for almost all of them.
    """
    end = beginning.find(b"\r\n\r\n")
    return beginning[: end if end >= 0 else len(beginning)].lower()


def take_head(message: bytes) -> bytes:
    """Return the head of a message, with the CRLF of its last line; all of it if it has no body."""
    if message.startswith(b"\r\n"):
        return b""
    end = message.find(b"\r\n\r\n")
    return message[: end + 2] if end >= 0 else message


def find_values(beginning: bytes, name: str) -> Iterator[bytes]:
    """Yield the values of the header fields of this name, unfolded and trimmed.

    The head ends at the first empty line (RFC 5322 §2.1), or after HEAD_OCTETS.
    """
    # With a CRLF in front, and one behind it, every field is between two of them.
    head = b"\r\n" + beginning[:HEAD_OCTETS]
    end = head.find(b"\r\n\r\n")
    head = head[: end + 2] if end >= 0 else head
    lowered = head.lower()
    start = b"\r\n" + name.lower().encode("ascii")
    at = lowered.find(start)
    while at >= 0:
        line = at + len(start)
        stop = _find_end(head, line)
        # RFC 5322 §4.5.8: blanks before the colon are obsolete, and to be understood.
        before, colon, value = head[line:stop].partition(b":")
        # A field whose end is not in sight may say more: it is not read.
        if colon and not before.strip(b" \t") and stop < len(head):
            yield b" ".join(value.split())
        at = lowered.find(start, line)


def _find_end(head: bytes, at: int) -> int:
    """Return where a field ends: before a CRLF that no blank follows (RFC 5322 §2.2.3)."""
    while True:
        at = head.find(b"\r\n", at)
        if at < 0:
            return len(head)
        if head[at + 2 : at + 3] not in (b" ", b"\t"):
            return at
        at += 2


def find_message_id(beginning: bytes, head: bytes) -> str:
    """Return the value of the first Message-ID field, "" when there is none.

    ``beginning`` is the message with a line of ours in front, or its first part; ``head`` its head in
    lower case (``cut_head``). Unfolded, at most MESSAGE_ID_OCTETS, and nothing in it that a terminal
    or a log would obey. With a blank before the colon (obsolete, RFC 5322 §4.5.8) it is not seen: one
    search of what is in lower case already is all that each message is charged with.
    """
    found = _MESSAGE_ID.search(head)
    if found is None:
        return ""
    start, end = found.span(1)
    if start >= 0:
        return beginning[start:end].decode("ascii")
    return _read_message_id(beginning, found.end())


def _read_message_id(beginning: bytes, at: int) -> str:
    """Return what stands there if it is folded, too long, or nothing that should be there."""
    limit = at + 4 * MESSAGE_ID_OCTETS
    end = _END.search(beginning, at, limit)
    value = beginning[at : end.start() if end else limit]
    text = b" ".join(value.split())[:MESSAGE_ID_OCTETS].decode("utf-8", "replace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
