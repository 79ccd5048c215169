"""The fields of a head, as they came, and which of them a signature means."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from relay.dkim.tags import BLANKS

# A field ends before a CRLF that no blank follows (RFC 5322 §2.2.3).
_ENDS = re.compile(rb"\r\n(?![ \t])")


def cut_message(message: bytes) -> tuple[bytes, bytes]:
    """Return head (with the CRLF of its last line) and body, without the blank line between."""
    if message.startswith(b"\r\n"):
        return b"", message[2:]
    end = message.find(b"\r\n\r\n")
    return (message, b"") if end < 0 else (message[: end + 2], message[end + 4 :])


class Fields:
    """The fields of one head, each without the CRLF at its end."""

    def __init__(self, head: bytes) -> None:
        """``head``: lines that end in CRLF, without the blank one after them."""
        self._fields = _ENDS.split(head.removesuffix(b"\r\n"))
        self._places: dict[bytes, list[int]] = defaultdict(list)
        for place, field in enumerate(self._fields):
            # RFC 5322 §4.5.8: blanks before the colon are obsolete, and to be understood. Who
            # receives the message may read them so; a second From must not pass by them.
            self._places[field.partition(b":")[0].strip(BLANKS).lower()].append(place)

    @property
    def names(self) -> Iterable[bytes]:
        """Each name that is there, once, in lower case."""
        return self._places.keys()

    def find(self, name: bytes) -> Sequence[int]:
        """Return the places of the fields of a name (lower case), from above."""
        return self._places.get(name, ())

    def __getitem__(self, place: int) -> bytes:
        return self._fields[place]

    def choose(self, names: Iterable[bytes], *, but: int = -1) -> list[bytes]:
        """Return the fields that these names (lower case) mean in h=, in its order.

        RFC 6376 §5.4.2: of several the lowest first, each once; a name that is left over means that
        there is none more, and adds nothing. ``but``: the signature itself is never meant (§3.7).
        """
        taken: dict[bytes, int] = {}  # how many of a name, from below
        chosen = []
        for name in names:
            places = self._places.get(name)
            if places is None:
                continue
            count = taken.get(name, 0)
            if count < len(places) and places[-1 - count] == but:
                count += 1
            if count < len(places):
                chosen.append(self._fields[places[-1 - count]])
                count += 1
            taken[name] = count
        return chosen
