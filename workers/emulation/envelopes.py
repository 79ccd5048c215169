"""Envelopes for a corpus: who sends, to whom, and with which parameters.

Every message has a sender address of its own. So a copy that arrives anywhere, and a bounce that
comes back, name the message that they belong to, whatever its content is.
"""

import random

from relay.model import Envelope, Recipient
from workers.emulation.internet import SENDER_DOMAIN, STRANGER

_NAMES = ("anna", "bela", "chidi", "dora", "emre", "freya", "goran", "hana", "ines", "jonas")
# Octets above 127 in an address need SMTPUTF8 (RFC 6531) all the way.
_INTERNATIONAL = "jörg"
# A domain's share of the recipients.
_DOMAINS = {
    "good.test": 24,
    "fine.test": 16,
    "slow.test": 10,
    "grey.test": 10,
    "picky.test": 10,
    "moody.test": 10,
    "plain.test": 10,
    "flaky.test": 10,
}
_STRANGERS = 0.35  # of the recipients at picky.test
_WITH_PARAMETERS = 0.1  # of the messages


def make_random(seed: int, number: int, purpose: str) -> random.Random:
    """Return chance that is the same for the same arguments, on every machine."""
    return random.Random(f"{seed}/{number}/{purpose}")  # noqa: S311 - not for secrets


def make_envelope(seed: int, number: int, *, eight_bit: bool) -> Envelope:
    """Make the envelope of message ``number``. ``eight_bit``: its content has octets above 127."""
    chance = make_random(seed, number, "envelope")
    utf8 = chance.random() < 0.02
    parameters = chance.random() < _WITH_PARAMETERS
    addresses = _choose_addresses(chance, utf8=utf8)
    return Envelope(
        sender=f"m{number:06}@{SENDER_DOMAIN}".encode(),
        recipients=tuple(_make_recipient(address, parameters) for address in addresses),
        body=b"8BITMIME" if eight_bit or utf8 else b"",
        smtputf8=utf8,
        ret=b"HDRS" if parameters else b"",
        envid=b"acme-%d+2B" % number if parameters else b"",
    )


def _choose_addresses(chance: random.Random, *, utf8: bool) -> list[bytes]:
    """Most have one recipient, some a few, and now and then it is a list."""
    least, most = chance.choices(((1, 1), (2, 4), (5, 12), (30, 60)), (640, 260, 90, 10))[0]
    chosen = {f"{_INTERNATIONAL}@good.test".encode(): None} if utf8 else {}
    for _ in range(chance.randint(least, most)):
        chosen[_choose_address(chance)] = None
    return list(chosen)


def _choose_address(chance: random.Random) -> bytes:
    domain = chance.choices(list(_DOMAINS), list(_DOMAINS.values()))[0]
    name = chance.choice(_NAMES)
    if domain == "picky.test" and chance.random() < _STRANGERS:
        name = STRANGER.decode()
    return f"{name}{chance.randint(1, 99)}@{domain}".encode()


def _make_recipient(address: bytes, parameters: bool) -> Recipient:
    if not parameters or not address.isascii():
        return Recipient(address)
    # NEVER (RFC 3461 §4.1) would let a failure go unreported; the books could not be closed.
    return Recipient(address, notify=b"FAILURE,DELAY", orcpt=b"rfc822;" + address)
