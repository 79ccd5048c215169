"""What arrived at a receiver: every copy by its hash, and by whom it was brought.

A copy is known by sender and recipient: the demo gives every message a sender address of its
own, so the pair names one recipient of one message, and the same pair twice is a duplicate.
"""

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field

# RFC 3464 §2.3: the group of fields about one recipient. Only failures close an account.
_FINAL = re.compile(rb"^Final-Recipient:\s*[^;\r\n]+;\s*(\S+)", re.IGNORECASE | re.MULTILINE)
_FAILED = re.compile(rb"^Action:\s*failed\b", re.IGNORECASE | re.MULTILINE)
# A header ends where the next line does not begin with a blank or tab (RFC 5322 §2.2.3).
_HEADER_END = re.compile(rb"\r\n(?![ \t])")

Copy = tuple[bytes, bytes]  # sender, recipient


@dataclass
class Inbox:
    """One receiver's memory. All counts are of things that really arrived."""

    connections: int = 0
    messages: int = 0  # transactions that ended well for us, whether or not the sender knows
    messages_over_tls: int = 0
    accepted: int = 0  # recipients in them
    deferred: int = 0  # recipients answered 4xx
    refused: int = 0  # recipients answered 5xx
    broken: int = 0  # connections that we hung up on, in content or after it
    copies: dict[Copy, list[bytes]] = field(default_factory=dict)  # digests, in order of arrival
    unanswered: set[Copy] = field(default_factory=set)  # taken, but 250 was never said
    bounces: dict[Copy, int] = field(default_factory=dict)  # reports, by what they are about
    sources: Counter[bytes] = field(default_factory=Counter)  # messages, by EHLO name
    addresses: dict[bytes, set[str]] = field(default_factory=dict)  # ... and where those came from

    def take(
        self, sender: bytes, recipients: list[bytes], content: bytes, *, answered: bool
    ) -> None:
        """Record a complete message."""
        self.messages += 1
        self.accepted += len(recipients)
        digest = digest_relayed(content)
        for recipient in recipients:
            self.copies.setdefault((sender, recipient), []).append(digest)
            if not answered:
                self.unanswered.add((sender, recipient))
            if not sender:
                self._read_report(recipient, content)

    def _read_report(self, recipient: bytes, content: bytes) -> None:
        """A bounce goes to the sender of what failed, and names the recipients that did."""
        for failed in read_failed(content):
            about = (recipient, failed)
            self.bounces[about] = self.bounces.get(about, 0) + 1


def digest_relayed(content: bytes) -> bytes:
    """Hash a message without its first header, which the relay has put on top."""
    end = _HEADER_END.search(content)
    return hashlib.sha256(content[end.end() :] if end else b"").digest()


def read_failed(report: bytes) -> list[bytes]:
    """Return the recipients that a delivery status report (RFC 3464) calls failed."""
    groups = [(_FINAL.search(g), _FAILED.search(g)) for g in report.split(b"\r\n\r\n")]
    return [final[1] for final, is_failure in groups if final and is_failure]
