"""Messages for an archive, and archives of each kind to put them into."""

import base64
import os
import time
from collections.abc import Iterator
from pathlib import Path

from relay.archive import Entry, make_entry
from relay.model import Envelope, Recipient, make_message_id

MESSAGE = b"Message-ID: <one@acme.example>\r\nSubject: x\r\n\r\nhello\r\n"
DAY = 86_400.0


def write_keys(path: Path, *keys: bytes) -> str:
    """Write a key file, with one new key if none is given; return its path."""
    path.write_bytes(b"".join(base64.b64encode(key) + b"\n" for key in keys or (os.urandom(32),)))
    return str(path)


def make(
    *people: str,
    tenant: str = "acme",
    sender: str = "s@acme.example",
    age: float = 0,
    rule: str = "",
) -> Entry:
    """Return an entry of a message that came ``age`` seconds ago."""
    now = time.time() - age
    recipients = tuple(Recipient(one.encode()) for one in people or ("r@example.com",))
    return make_entry(
        Envelope(sender.encode(), recipients),
        message_id=make_message_id(3, now=now),
        tenant=tenant,
        time=now,
        client="192.0.2.1",
        hello=b"mail.acme.example",
        tls="TLSv1.3",
        rule=rule,
    )


def find_objects(directory: Path) -> Iterator[Path]:
    """Yield the files of messages in an archive's directory."""
    yield from (path for path in directory.rglob("*.mail") if ".tmp" not in path.parts)
