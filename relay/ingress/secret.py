"""The secret header of a tenant: taken off before a message is stored, so that no receiver reads it.

It is the one change to a message that we make (besides our own Received line), and only for
tenants that have configured ``header``. This version does not check its value.
"""

import re


def make_pattern(name: str) -> re.Pattern[bytes]:
    """Return what matches a header field of this name, with its folded lines (RFC 5322 §2.2.3)."""
    field = re.escape(name.encode("ascii"))
    return re.compile(rb"(?im)^" + field + rb"[ \t]*:[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*")


def remove_header(beginning: bytes, pattern: re.Pattern[bytes]) -> bytes:
    """Return the beginning of a message without such fields; the body is not looked at.

    ``beginning`` is the message, or its first part; a head that is longer is cleaned as far as it
    goes.
    """
    end = beginning.find(b"\r\n\r\n")
    end = len(beginning) if end < 0 else end + 2
    return pattern.sub(b"", beginning[:end]) + beginning[end:]
