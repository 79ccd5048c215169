"""Finds in the head of a message that comes back which message of ours it was.

By the ``Received`` field that we put on it (relay/ingress/trace.py): nothing else in it is ours, and
receivers leave it in when they black out who complains. Anybody can write such a field; but the id has
sixty bits of chance, and who knows it has had the message.
"""

import re

from relay.mime.fields import fields
from relay.model import read_home
from relay.store.keys import SHARDS

_ID = re.compile(rb"\(outgate\) with [0-9A-Za-z]{1,20} id ([0-9A-HJKMNP-TV-Z]{24})(?=[ \t;]|\Z)")
_MOST = 200  # Received fields that are looked at; 100 hops make a loop


def find_message_id(head: bytes, hostname: str) -> str:
    """Return the id under which ``hostname`` (ours) took a message; "" when the head has none.

    Of several the one on top: the last time that it went through us.
    """
    wanted = b" by " + hostname.lower().encode("ascii") + b" (outgate) with "
    left = _MOST
    for name, value in fields(head):
        if name.lower() != b"received":
            continue
        left -= 1
        if left < 0:
            break
        # Others fold, and take blanks for one another.
        line = b" ".join(value.split())
        at = line.lower().find(wanted)
        if at >= 0 and (found := _ID.match(line, line.index(b"(", at))):
            message_id = found[1].decode("ascii")
            if read_home(message_id) < SHARDS:
                return message_id
    return ""
