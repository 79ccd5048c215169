"""Octets to text, whatever charset is said."""

import codecs
import pkgutil
import re
from encodings import __path__ as _PLACE
from encodings.aliases import aliases

# Python's codecs that are no charset of mail, or take time in proportion to the square.
_OTHERS = frozenset({"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"})
# Python remembers each name that it was asked for, for ever, and looks for unknown ones on the disk.
# Strangers have names without end, so it is asked only for these.
_KNOWN = frozenset(
    {*aliases, *aliases.values(), *(one.name for one in pkgutil.iter_modules(_PLACE))}
)
_SEPARATORS = re.compile("[^a-z0-9.]+")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def find_codec(charset: str) -> codecs.CodecInfo | None:
    """Return what reads and writes a charset of this name; None: nothing here does."""
    name = _SEPARATORS.sub("_", charset.lower()).strip("_")  # as encodings.normalize_encoding
    if name not in _KNOWN and (name := name.replace(".", "_")) not in _KNOWN:
        return None
    try:
        codec = codecs.lookup(name)
    except LookupError:  # of another system
        return None
    text: bool = codec._is_text_encoding  # not base64, zip and the like
    return codec if text and codec.name.replace("_", "-") not in _OTHERS else None


def read_text(octets: bytes, charset: str = "utf-8") -> str:
    """Return octets as text, with U+FFFD for what is none; an unknown charset is read as UTF-8."""
    codec = find_codec(charset)
    try:
        text = octets.decode(codec.name if codec else "utf-8", "replace")
    except (UnicodeError, ValueError):  # a few codecs do not know how to replace
        text = octets.decode("utf-8", "replace")
    return _SURROGATE.sub("\ufffd", text)


def clean(text: str) -> str:
    """Take the control characters out of a text, and blanks off both ends."""
    return _CONTROL.sub("", text).strip()
