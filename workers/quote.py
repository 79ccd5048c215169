"""What others wrote, and the outside of a notice: made fit to stand in a header, a field, a line.

Replies, addresses, parameters and headers are a stranger's words. After one of these functions they
hold no line end, no NUL and nothing longer than a line.
"""

import re
import textwrap
import time

MAX_TEXT = 500  # of a remote host's words


def clean(octets: bytes, most: int = 900) -> bytes:
    """Return octets without control characters, none of which may reach a header, cut to fit."""
    return re.sub(rb"[\x00-\x1f\x7f]", b"?", octets[:most])


def clean_utf8(octets: bytes, most: int = 900) -> bytes:
    """Return the same, and of what is not ASCII only what is UTF-8."""
    return clean(octets, most).decode("utf-8", "ignore").encode()


def keep_ascii(text: str) -> str:
    """Return text in printable ASCII."""
    return re.sub(r"[^ -~]", "?", text)


def limit(text: str, most: int = MAX_TEXT) -> str:
    """Return text in printable ASCII on one line, cut where it is too long."""
    text = " ".join(keep_ascii(text[: most + 1]).split())
    return text if len(text) <= most else text[: most - 3] + "..."


def fold(field: str) -> bytes:
    """Fold a field at blanks (RFC 5322 §2.2.3); no line of it is blank, none too long."""
    lines = textwrap.wrap(field, 76, break_long_words=False, break_on_hyphens=False)
    return "\r\n ".join(lines).encode()


def decode_xtext(xtext: bytes) -> bytes:
    """Decode RFC 3461 §4 xtext; b"" when it is not that, or hides what must not come out."""
    if not re.fullmatch(rb"(?:[!-*,-<>-~]|\+[0-9A-F]{2}){1,500}", xtext):
        return b""
    decoded = re.sub(rb"\+(..)", lambda found: bytes([int(found[1], 16)]), xtext)
    return decoded if re.fullmatch(rb"[ -~]+", decoded) and decoded.strip() else b""


def decode_unitext(address: bytes) -> bytes:
    r"""Turn the ``\x{E9}`` of RFC 6533 §3 into UTF-8; as it came when that is no character."""

    def decode(found: re.Match[bytes]) -> bytes:
        character = int(found[1], 16)
        # Of ASCII only what would mean something else in the parameter: + = \ (RFC 6533 §3).
        if character in (0x2B, 0x3D, 0x5C) or 0xA0 <= character < 0xD800:
            return chr(character).encode()
        return chr(character).encode() if 0xE000 <= character < 0x110000 else found[0]

    return re.sub(rb"\\x\{([0-9A-F]{2,6})\}", decode, address)


# RFC 5322 §3.3, in English whatever the locale is.
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)


def format_date(seconds: float) -> bytes:
    """Return a time (seconds since 1970) as RFC 5322 §3.3 has it, in UTC."""
    t = time.gmtime(seconds)
    day, month = _DAYS[t.tm_wday], _MONTHS[t.tm_mon - 1]
    clock = f"{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}"
    return f"{day}, {t.tm_mday} {month} {t.tm_year} {clock} +0000".encode()
