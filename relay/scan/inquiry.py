"""What a scanner is asked, what it says, and that it does not say anything."""

from collections.abc import Sequence
from dataclasses import dataclass

from relay.errors import OutgateError


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A message, and what a scanner may know of where it came from."""

    message: bytes
    sender: bytes  # b"" is the null sender
    recipients: Sequence[bytes]
    client: str  # address
    hello: str  # as the client said it, "" if it did not
    message_id: str  # ours, not the header field


@dataclass(frozen=True, slots=True)
class Scan:
    """What a scanner says of a message."""

    result: str  # clamd: "clean", "infected"; rspamd: its action, in lower case
    score: float | None = None
    details: str = (
        ""  # the signature, the symbols; printable, and nothing of the message's contents
    )


class ScanFailed(OutgateError):
    """The scanner did not say anything of use; the text, for the log, says why."""


class ScanRefused(ScanFailed):
    """... because of this message: the scanner is well, but the message is larger than it takes."""


def show(text: str, limit: int) -> str:
    """Make a stranger's words fit for a log: printable ASCII, at most ``limit`` characters."""
    # Cut first: the rest may be long.
    shown = "".join(c if " " <= c <= "~" else "?" for c in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."
