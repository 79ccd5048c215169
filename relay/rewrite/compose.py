"""Puts a footer below a text, in the text's own charset where that has the characters.

Where charsets have ASCII in them, which is nearly always, the text itself is not decoded: octets
that are wrong in it stay as they are, and readers see of them what they saw before.
"""

import re
from dataclasses import dataclass

from relay.mime.charset import find_codec
from relay.rewrite.cannotchange import CannotChange
from relay.rewrite.html import find_place, make_html

_C1 = re.compile(rb"[\x80-\x9f]")
_ASCII = bytes(range(0x20, 0x7F))
# ASCII octets in them are not always ASCII.
_STATEFUL = ("iso2022", "hz", "utf-7")


@dataclass(frozen=True, slots=True)
class Footer:
    """What goes below. ``html``: "" makes it of the text."""

    text: str
    html: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """A text without its transfer encoding. ``charset``: the one to be said, "" for no change."""

    content: bytes
    charset: str = ""


def compose_plain(
    content: bytes, charset: str, footer: Footer, *, flowed: bool, close: bool
) -> Text:
    """Return a text/plain with the footer as a paragraph of its own, behind an empty line.

    ``flowed``: format=flowed, RFC 3676. ``close``: the text must end in a line end. Raises
    CannotChange when its charset is not known, or its octets are not of it and would have to be.
    """
    codec = _find_codec(charset)
    if _has_ascii(codec):
        below = _make_below(footer, content, flowed=flowed, close=close)
        try:
            return Text(content + below.encode(codec))
        except UnicodeEncodeError:
            pass
    text = _decode(content, codec)
    whole = text + _make_below(footer, text.encode("utf-8"), flowed=flowed, close=close)
    return _encode(whole, codec)


def compose_html(content: bytes, charset: str, footer: Footer) -> Text:
    """Return a text/html with the footer at the end of its body.

    What its charset does not have is written as a reference (``&#8364;``): then the charset that the
    document itself may name stays true. Raises CannotChange, as ``compose_plain``.
    """
    codec = _find_codec(charset)
    if _has_ascii(codec):
        below = _make_html(footer, content).encode(codec, "xmlcharrefreplace")
        at = find_place(content)
        return Text(content[:at] + below + content[at:])
    text = _decode(content, codec)
    octets = text.encode("utf-8")
    at = find_place(octets)
    whole = octets[:at].decode() + _make_html(footer, octets) + octets[at:].decode()
    return _encode(whole, codec)


def _find_codec(charset: str) -> str:
    codec = find_codec(charset)
    if codec is None:
        raise CannotChange("its text is in a charset that is not known")
    return codec.name


def _has_ascii(codec: str) -> bool:
    if codec.startswith(_STATEFUL):
        return False
    return _ASCII.decode(codec, "replace") == _ASCII.decode("ascii")


def _decode(content: bytes, codec: str) -> str:
    # What says ISO 8859-1 and has octets of 80 to 9F is read as windows-1252 (WHATWG's Encoding).
    if codec == "iso8859-1" and _C1.search(content):
        codec = "cp1252"
    try:
        text = content.decode(codec)
        text.encode("utf-8")  # some codecs make halves of surrogate pairs
    except UnicodeError:
        raise CannotChange("its text is not in the charset that it says") from None
    return text


def _encode(text: str, codec: str) -> Text:
    """Encode as before, if the charset has all of it; else as UTF-8."""
    try:
        octets = text.encode(codec)
        if octets.decode(codec) == text:
            return Text(octets)
    except UnicodeError:
        pass
    return Text(text.encode("utf-8"), "utf-8")


def _make_below(footer: Footer, content: bytes, *, flowed: bool, close: bool) -> str:
    end = _find_line_end(content)
    octets = end.encode()
    ended = content.endswith(octets) or not content
    gap = "" if not content or content.endswith(octets * 2) or content == octets else end
    lines = [_stuff(line) if flowed else line.rstrip() for line in footer.text.splitlines()]
    last = end if close or ended else ""
    return ("" if ended else end) + gap + end.join(lines) + last


def _stuff(line: str) -> str:
    """Make a line one that ends where it ends (RFC 3676 §4.2) and is no quote (§4.4)."""
    line = line if line == "-- " else line.rstrip(" ")
    return " " + line if line.startswith((" ", ">", "From ")) else line


def _make_html(footer: Footer, content: bytes) -> str:
    end = _find_line_end(content)
    lines = (footer.html or make_html(footer.text)).splitlines()
    return end + end.join(lines) + end


def _find_line_end(content: bytes) -> str:
    """Return how lines end in a text; in base64 it may be LF alone."""
    return "\n" if b"\n" in content and b"\r\n" not in content else "\r\n"
