"""Lists of tags, ``name=value; name=value``: signatures and key records are written so."""

import binascii
import re

from relay.errors import OutgateError

BLANKS = b" \t\r\n"
_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9_]*")
# d= and s=: names in the DNS. An internationalized one is written in A-labels here; U-labels, which
# RFC 8616 allows in some messages, are not read.
_HOST = re.compile(rb"(?=.{1,253}\Z)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*")


class Unproven(OutgateError):
    """A signature that proves nothing, now or later: the text says why, for the log."""


def parse_tags(text: bytes) -> dict[bytes, bytes]:
    """Return name -> value, without the blanks around them (RFC 6376 §3.2).

    What two readers could read in two ways is no list: a name twice, something without ``=``.
    Raises Unproven.
    """
    tags: dict[bytes, bytes] = {}
    for part in text.split(b";"):
        name, equals, value = part.partition(b"=")
        name = name.strip(BLANKS)
        if not equals and not name:
            continue  # the last ";" may have nothing behind it; that others do says nothing else
        if not equals or not _NAME.fullmatch(name):
            raise Unproven("the tags cannot be read")
        if name in tags:
            raise Unproven(f"{name.decode()[:20]}= is there twice")
        tags[name] = value.strip(BLANKS)
    return tags


def read_host(value: bytes) -> str:
    """Return a name in the DNS, in lower case; "" when it is none."""
    return value.lower().decode("ascii") if _HOST.fullmatch(value) else ""


def read_list(value: bytes) -> list[bytes]:
    """Return what stands between the colons, in lower case."""
    return [part.strip(BLANKS).lower() for part in value.split(b":")]


def read_octets(value: bytes) -> bytes:
    """Decode base64 that may be folded anywhere (RFC 6376 §2.10). Raises Unproven."""
    try:
        return binascii.a2b_base64(value.translate(None, BLANKS), strict_mode=True)
    except binascii.Error:
        raise Unproven("what should be base64 is not") from None
