"""Whom a replayed message goes to: found in its head, and led to a test domain.

Real people must not get yesterday's mail again because somebody tests a gateway. So each address is
given a domain below one for tests, the same for the same domain each time: ``ann@Example.com``
becomes ``ann@example-com.test``. What was one domain stays one, and two stay two.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from relay.address import find_domain
from relay.mime.fields import fields
from relay.model import Envelope, Recipient
from relay.smtp.extensions import LocalProtocolError, check_word

MOST = 1_000  # recipients of a message; the others are left out
_LABEL = 63  # RFC 1035 §2.3.4
# Whoever delivered it wrote these; what senders write in To and Cc may have gone elsewhere.
_SENDERS = (b"return-path", b"x-envelope-from", b"sender", b"from")
_DELIVERED = (b"delivered-to", b"x-original-to", b"envelope-to", b"x-envelope-to")
_ADDRESSED = (b"to", b"cc", b"bcc")
# RFC 5322 §3.2.4: a quoted string in front of "<" is a name, whatever is in it. Both match what is not
# closed, too, so that nobody looks again from each quote or bracket inside it.
_NAME = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"\s*(?=<))?', re.DOTALL)
_COMMENT = re.compile(rb"\((?:[^()\\]|\\.)*+(\))?", re.DOTALL)
_ADDRESS = re.compile(
    rb"""[^\x00-\x20"(),:;<>@\[\\\]\x7f]{1,200}@(?:[A-Za-z0-9_\x80-\xff.-]{1,253}|\[[0-9A-Za-z:.]{1,50}\])"""
)


@dataclass(frozen=True, slots=True)
class Addressing:
    """What becomes of addresses.

    ``sender``: this one instead of the message's (b"": null); beginning with "@": the message's is led
    to that domain; None: to a test domain, or as it is with ``real_senders``. ``recipients``: the same,
    instead of all of the message's. ``suffix``: where test domains are.
    """

    sender: bytes | None = None
    recipients: tuple[bytes, ...] = ()
    real_senders: bool = False
    real_recipients: bool = False
    suffix: str = "test"

    def address(self, head: bytes) -> Envelope | None:
        """Return the envelope of a message; None when nobody can be found to send it to.

        ``head``: the beginning of the message, with CRLF.
        """
        found = _gather(head)
        sender = self._choose_sender(found)
        recipients = self._choose_recipients(found)
        if not recipients:
            return None
        utf8 = not all(one.isascii() for one in (sender, *recipients))
        return Envelope(sender, tuple(map(Recipient, recipients)), smtputf8=utf8)

    def _choose_sender(self, found: dict[bytes, list[bytes]]) -> bytes:
        if self.sender is not None and not self.sender.startswith(b"@"):
            return self.sender
        real = next((found[name] for name in _SENDERS if name in found), [])
        if not real:
            return b""
        if self.sender is not None:
            return _move(real[0], self.sender)
        return real[0] if self.real_senders else lead_away(real[0], self.suffix)

    def _choose_recipients(self, found: dict[bytes, list[bytes]]) -> list[bytes]:
        fixed = [one for one in self.recipients if not one.startswith(b"@")]
        if fixed:
            return fixed
        names = _DELIVERED if any(name in found for name in _DELIVERED) else _ADDRESSED
        real = [one for name in names for one in found.get(name, ())]
        if self.recipients:
            return _unite(_move(one, self.recipients[0]) for one in real)
        if self.real_recipients:
            return _unite(real)
        return _unite(lead_away(one, self.suffix) for one in real)


def _gather(head: bytes) -> dict[bytes, list[bytes]]:
    """Return the addresses in the fields that may say whose it is, by the field's name."""
    found: dict[bytes, list[bytes]] = {}
    for name, value in fields(head):
        lower = name.lower()
        if lower in _SENDERS:
            if lower not in found:
                addresses = find_addresses(value)
                if addresses or (lower == b"return-path" and b"<>" in value):
                    found[lower] = addresses
        elif lower in _DELIVERED or lower in _ADDRESSED:
            found.setdefault(lower, []).extend(find_addresses(value))
    return found


def find_addresses(value: bytes) -> list[bytes]:
    """Return the addresses in a field's value that can be sent to, as they are written."""
    plain = _COMMENT.sub(b" ", _NAME.sub(b" ", value))
    return [one for one in _ADDRESS.findall(plain) if _is_sendable(one)][:MOST]


def _is_sendable(address: bytes) -> bool:
    try:
        check_word(address, utf8=True)
    except LocalProtocolError:
        return False
    return find_domain(address) is not None or address.endswith(b"]")


@lru_cache(maxsize=16_384)
def lead_away(address: bytes, suffix: str) -> bytes:
    """Return an address with the domain below ``suffix`` that stands for its own.

    One that is below it already stays as it is.
    """
    local, _, _ = address.rpartition(b"@")
    domain = find_domain(address)
    if domain is not None and (domain == suffix or domain.endswith(f".{suffix}")):
        return address
    return local + b"@" + _stand_in(domain or address.decode("utf-8", "replace"), suffix).encode()


def _stand_in(domain: str, suffix: str) -> str:
    label = re.sub(r"[^a-z0-9]", "-", domain.lower()).strip("-") or "literal"
    # Where that could be another domain's, too, or no label at all, a few characters tell them apart.
    if not re.fullmatch(r"[a-z0-9.]*", domain) or len(label) > _LABEL or label[2:4] == "--":
        digest = hashlib.blake2b(domain.encode(), digest_size=4).hexdigest()
        label = f"x{label[: _LABEL - 10].rstrip('-')}-{digest}"
    return f"{label}.{suffix}"


def _move(address: bytes, domain: bytes) -> bytes:
    """Return ``ann=example.com@DOMAIN`` for ann@example.com; ``domain`` has its "@"."""
    return address.replace(b"@", b"=").translate(None, b"[]") + domain


def _unite(addresses: Iterable[bytes]) -> list[bytes]:
    return list(dict.fromkeys(addresses))[:MOST]
