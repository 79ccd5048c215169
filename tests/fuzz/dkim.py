"""DKIM: a verdict, however the body is cut; and what was not signed is not proven.

The first octet is how the body is cut. The rest is the message.
"""

import re
from collections.abc import Coroutine
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay.dkim.fields import cut_message
from relay.dkim.verify import Verdict, Verifier
from tests.fuzz.target import cut, take_octet
from tests.relay.dkim.made import MESSAGE, KnownKeys, is_ours, make_record, sign_as

_T = TypeVar("_T")

_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))  # the same in every run
_KEYS = KnownKeys(make_record(_KEY))
_NOW = 1_790_000_000.0
_BLANKS = b" \t\r\n"
_FROM = re.compile(rb"(?im)^from[ \t]*:(.*(?:\n[ \t].*)*)")

_SIGNED = sign_as(MESSAGE, _KEY)
SEEDS = [
    bytes([how]) + message
    for how, message in enumerate(
        (
            _SIGNED,
            MESSAGE,
            _SIGNED + b"more\r\n",
            b"From: Bob <bob@evil.test>\r\n" + _SIGNED,
            _SIGNED.replace(b"alice@", b"bob@"),
            sign_as(MESSAGE, _KEY, l="10", t="1", x="2000000000", i="@mail.acme.example"),
            sign_as(MESSAGE, _KEY, c="simple", q="dns/txt", d="other.example"),
            sign_as(_SIGNED, _KEY, h="from : to:\r\n\tsubject"),
            sign_as(MESSAGE, _KEY, a="rsa-sha256", x="1"),
            b"DKIM-Signature: v=1; a=ed25519-sha256; d=acme.example; b=;\r\n\r\n",
            b"\r\n\r\n",
        )
    )
]


def finish(task: Coroutine[object, object, _T]) -> _T:
    """Run what never waits."""
    try:
        task.send(None)
    except StopIteration as done:
        result: _T = done.value
        return result
    raise AssertionError("it waits")


def _verify(head: bytes, portions: list[bytes]) -> Verdict:
    verifier = Verifier(head, is_ours, now=_NOW)
    for portion in portions:
        verifier.feed(portion)
    return finish(verifier.conclude(_KEYS))


def check(octets: bytes) -> None:
    """Nobody has the key here: what verifies is one of the seeds, with other blanks at most."""
    how, message = take_octet(octets)
    head, body = cut_message(message)
    verdict = _verify(head, [body])
    assert _verify(head, cut(how, body)) == verdict
    if not verdict.domain:
        assert verdict.reason
        return
    assert is_ours(verdict.domain)
    signed = cut_message(MESSAGE)[1]
    assert body.translate(None, _BLANKS) == signed.translate(None, _BLANKS)
    froms = _FROM.findall(head)
    assert [one.split() for one in froms] == [[b"Alice", b"<alice@acme.example>"]]
