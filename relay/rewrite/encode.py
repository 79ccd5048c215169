"""Transfer encodings (RFC 2045 §6), the way out, and which one a changed text gets."""

import base64
import re

LONGEST = 998  # octets of a line, RFC 5322 §2.1.1

_UNSAFE = re.compile(rb"[^\t -<>-~]|[ \t]\Z")
_ASCII = bytes(range(128))
_ESCAPED = {bytes([octet]): b"=%02X" % octet for octet in range(256)}
# RFC 2045 §6.7 (5): 76 characters. Two are left for a hyphen that is escaped, one for the "=".
_WIDTH = 73


def encode_base64(content: bytes) -> bytes:
    """Return base64 in lines of 76, each but the last with its CRLF."""
    encoded = base64.b64encode(content)
    return b"\r\n".join(encoded[at : at + 76] for at in range(0, len(encoded), 76))


def encode_quoted(content: bytes) -> bytes:
    """Return quoted-printable. Line ends are CRLF; single CR and LF are escaped.

    No line begins with two hyphens: none can be taken for a boundary.
    """
    return b"\r\n".join(
        b"=\r\n".join(_cut(_UNSAFE.sub(lambda match: _ESCAPED[match[0]], line)))
        for line in content.split(b"\r\n")
    )


def _cut(line: bytes) -> list[bytes]:
    """Cut an encoded line into pieces, none of them within an escape."""
    pieces: list[bytes] = []
    at = 0
    while at < len(line) or not pieces:
        end = at + _WIDTH
        if end < len(line):
            if line[end - 1 : end] == b"=":
                end -= 1
            elif line[end - 2 : end - 1] == b"=":
                end -= 2
        piece = line[at:end]
        pieces.append(b"=2D" + piece[1:] if piece.startswith(b"--") else piece)
        at = end
    return pieces


def has_long_line(content: bytes) -> bool:
    """Tell whether a line has more octets than SMTP carries."""
    at = 0
    # From line end to line end, the last one within reach: a pattern begins anew at each octet.
    while at + LONGEST < len(content):
        reach = at + LONGEST + 1
        last = max(content.rfind(b"\n", at, reach), content.rfind(b"\r", at, reach))
        if last < 0:
            return True
        at = last + 1
    return False


def choose(encoding: str, before: bytes, after: bytes) -> str:
    """Return the transfer encoding of a text that has changed: the one it had, if it can be kept.

    ``before`` and ``after`` without it. What was wrong before is not put right: a text of 7bit that
    has other octets stays so, unless it was the change that brought them.
    """
    if encoding in ("base64", "quoted-printable"):
        return encoding
    if (
        encoding == "7bit"
        and not after.isascii()
        and (before.isascii() or not _goes_on(before, after))
    ):
        return "quoted-printable"
    if has_long_line(after) and not has_long_line(before):
        return "quoted-printable"
    return encoding


def _goes_on(before: bytes, after: bytes) -> bool:
    """Tell whether all that was added is ASCII."""
    return len(before.translate(None, _ASCII)) == len(after.translate(None, _ASCII))


def encode(content: bytes, encoding: str) -> bytes:
    """Return content in a transfer encoding."""
    if encoding == "base64":
        return encode_base64(content)
    return encode_quoted(content) if encoding == "quoted-printable" else content
