"""Encoded words (RFC 2047), as the wild writes them: inside quotes, with blanks, cut in a character."""

import binascii
import re

from relay.mime.charset import read_text

# RFC 2231 §5: a language may stand behind the charset.
_WORD = re.compile(rb"=\?([^?*\s]{1,60})(?:\*[^?\s]{0,60})?\?([bq])\?([^?]*)\?=", re.IGNORECASE)
_NOT_BASE64 = bytes(
    set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
)


def decode_words(value: bytes) -> str:
    """Return the text of a value whose words may be encoded; what is not is read as UTF-8."""
    texts: list[str] = []
    charset, gathered = "", b""  # octets of words side by side: a character may be cut between them
    at = 0
    for match in _WORD.finditer(value):
        between = value[at : match.start()]
        its_charset = match[1].decode("ascii", "replace").lower()
        if its_charset != charset or between.strip():
            texts.append(read_text(gathered, charset))
            gathered = b""
        # RFC 2047 §6.2: blanks between two of them are not shown.
        if between.strip() or not at:
            texts.append(read_text(between))
        charset = its_charset
        gathered += _decode(match[2], match[3])
        at = match.end()
    return "".join([*texts, read_text(gathered, charset), read_text(value[at:])])


def _decode(encoding: bytes, text: bytes) -> bytes:
    if encoding in b"qQ":
        return binascii.a2b_qp(text, header=True)
    return decode_base64(text)


def decode_base64(text: bytes) -> bytes:
    """Decode base64 up to its first padding; other octets in it are skipped, and a rest is dropped."""
    letters = text.partition(b"=")[0].translate(None, _NOT_BASE64)
    letters = letters[: len(letters) - (len(letters) % 4 == 1)]
    return binascii.a2b_base64(letters + b"=" * (-len(letters) % 4))
