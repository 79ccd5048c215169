"""A mail server in threads that keeps what it took, octet by octet."""

import re
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from tests.kit.inbox import Inbox, no_delay

_MARK = re.compile(rb"^X-Mark: (\S+)\r$", re.MULTILINE | re.IGNORECASE)
_STUFFED = re.compile(rb"^\.", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Taken:
    """One message as it came: the octets after dot unstuffing."""

    recipients: tuple[str, ...]
    octets: bytes

    @property
    def sent(self) -> bytes:
        """What was handed in: all but the Received field that the gateway puts on top."""
        assert self.octets.startswith(b"Received: "), self.octets[:200]
        end = re.compile(rb"\r\n(?![ \t])").search(self.octets)
        assert end is not None
        return self.octets[end.end() :]


class Shelf(Inbox):
    """An inbox whose ``messages`` are there to be compared, by mark ("" for those without)."""

    def __init__(self, *, port: int = 0, pause: Callable[[], None] = no_delay) -> None:
        super().__init__(port=port, pause=pause)
        self.messages: dict[str, list[Taken]] = defaultdict(list)
        self._shelving = threading.Lock()

    def take(self, client: str, content: bytes, recipients: list[bytes]) -> None:
        """Take a message; returns when it may be answered."""
        found = _MARK.search(content)
        taken = Taken(tuple(address.decode() for address in recipients), _STUFFED.sub(b"", content))
        with self._shelving:
            self.messages[found[1].decode() if found else ""].append(taken)
        super().take(client, content, recipients)
