"""Ends of messages that are none: what some server, somewhere, has taken for CRLF "." CRLF.

The catalogue, and what a correct receiver makes of content that holds one of them. Written anew from
RFC 5321 §2.3.8, §4.1.1.4 and §4.5.2, octet by octet; nothing here is the gateway's.
"""

import re
from collections.abc import Iterator

END = b"\r\n.\r\n"
# What may stand before and behind the dot. A server that forgives one of these on either side, and
# another that does not, are all it takes.
BREAKS = {
    "CR": b"\r",
    "LF": b"\n",
    "CRLF": b"\r\n",
    "NUL": b"\0",
    "LF CR": b"\n\r",
    "LF LF": b"\n\n",
    "CR CR LF": b"\r\r\n",
    "CR NUL LF": b"\r\0\n",
    "NUL CRLF": b"\0\r\n",
    "CRLF NUL": b"\r\n\0",
    "CRLF CR": b"\r\n\r",
}
# Dots and line ends of other kinds: with blanks, doubled, of other alphabets, with the eighth bit.
_ODD = {
    "CRLF . SP CRLF": b"\r\n. \r\n",
    "CRLF . TAB CRLF": b"\r\n.\t\r\n",
    "CRLF SP . CRLF": b"\r\n .\r\n",
    "CRLF . . CRLF": b"\r\n..\r\n",
    "CRLF . . . CRLF": b"\r\n...\r\n",
    "CRLF . VT CRLF": b"\r\n.\x0b\r\n",
    "CRLF . FF CRLF": b"\r\n.\x0c\r\n",
    "VT . VT": b"\x0b.\x0b",
    "CRLF BS . CRLF": b"\r\n\x08.\r\n",
    "CRLF . DEL CRLF": b"\r\n.\x7f\r\n",
    "CRLF . ^Z CRLF": b"\r\n.\x1a\r\n",
    "NEL . NEL": b"\x85.\x85",
    "NEL . NEL in UTF-8": b"\xc2\x85.\xc2\x85",
    "line separators": b"\xe2\x80\xa8.\xe2\x80\xa8",
    "CRLF with the eighth bit": b"\x8d\x8a.\x8d\x8a",
    "dot with the eighth bit": b"\r\n\xae\r\n",
    "dot of full width": b"\r\n\xef\xbc\x8e\r\n",
    "dot in quoted-printable": b"\r\n=2E\r\n",
    "LF overlong in UTF-8": b"\xc0\x8a.\xc0\x8a",
    "NUL in the dot's place": b"\r\n\0\r\n",
    "CR . LF, crossed": b"\r.\n",
    "only dots": b"\n.\n.\r.\r\n.\n",
}


def list_endings() -> dict[str, bytes]:
    """Return all of the catalogue, by name; some hold a real end (``END in ending``)."""
    pairs = {
        f"{before} . {behind}": BREAKS[before] + b"." + BREAKS[behind]
        for before in BREAKS
        for behind in BREAKS
    }
    return pairs | _ODD


ENDINGS = list_endings()
TRICKS = {name: ending for name, ending in ENDINGS.items() if END not in ending}


def unstuff(wire: bytes) -> bytes:
    """Return the content that stands on the wire between 354 and the end (RFC 5321 §4.5.2)."""
    lines = wire.split(b"\r\n")
    return b"\r\n".join(line.removeprefix(b".") for line in lines)


def stuff(content: bytes) -> bytes:
    """Return what a sender puts on the wire for content: the other way round."""
    lines = content.split(b"\r\n")
    return b"\r\n".join(b"." + line if line[:1] == b"." else line for line in lines)


def is_clean(content: bytes) -> bool:
    """Say whether CR and LF occur only together, and NUL nowhere."""
    rest = content.replace(b"\r\n", b"")
    return not any(octet in rest for octet in b"\r\n\0")


def repair(content: bytes) -> bytes:
    """Return what ``line_endings = "repair"`` promises: NUL gone, bare LF a line end, bare CR a blank."""
    ends = {b"\r\n": b"\r\n", b"\n": b"\r\n", b"\r": b" "}
    return re.sub(rb"\r\n|\r|\n", lambda found: ends[found[0]], content.replace(b"\0", b""))


def find_ends(wire: bytes) -> list[int]:
    """Return where the most forgiving receiver would end a message: any line that is a dot.

    It takes CR, LF, and any mixture of them with NUL, for an end of line.
    """
    return [found.start() for found in re.finditer(rb"(?<=[\r\n])\0*\.\0*(?=[\r\n])", wire)]


def cut_everywhere(octets: bytes, start: int, end: int) -> Iterator[list[bytes]]:
    """Yield every way to cut octets in two from ``start`` to ``end``; at last, at all of these places."""
    for place in range(start, end + 1):
        yield [octets[:place], octets[place:]]
    middle = [octets[place : place + 1] for place in range(start, end)]
    yield [octets[:start], *middle, octets[end:]]
