"""The texts that come with the program: whole, plausible, and filled in."""

import pytest

from workers.emulation.behaviour import Refusal
from workers.emulation.providers.wording import KINDS, load_styles, say
from workers.replies.classifier import read_reply

PERMANENT = {"blocked", "unknown", "spam", "too-large"}
EITHER = {"tls-required"}
_TO_THE_SOURCE = {"slow-source", "fewer-connections", "quarantine-source"}
# What the control loop must make of a kind: what is measured with these providers rests on it.
ACTIONS = {
    "throttled": _TO_THE_SOURCE,
    "too-many-connections": {"fewer-connections"},
    "messages-per-connection": {"reconnect"},
    "too-many-recipients": {"retry"},
    "greylisted": {"retry-same-source"},
    "blocked": {"quarantine-source"},
    "blocked-for-now": _TO_THE_SOURCE,
    "allowance": {"slow-source"},
    "unknown": {"bounce"},
    "spam": {"bounce"},
    "tls-required": {"fix-setup"},
    "too-large": {"bounce"},
}


@pytest.mark.parametrize("style", load_styles())
@pytest.mark.parametrize("kind", KINDS)
def test_each_style_has_words_for_everything(style: str, kind: str) -> None:
    replies = load_styles()[style][kind]

    assert replies
    for reply in replies:
        if kind not in EITHER:
            assert reply.code // 100 == (5 if kind in PERMANENT else 4)
        if "." in reply.status:
            assert reply.status[0] == str(reply.code)[0]
        filled = say(reply, "mx.big.test", "127.0.0.11", b"b@big.test").text
        assert filled.isascii()
        assert filled.isprintable()
        assert not set(filled) & set("{}")
        assert len(filled) < 480  # RFC 5321 §4.5.3.1.5: a reply line has 512 octets


@pytest.mark.parametrize("style", load_styles())
@pytest.mark.parametrize("kind", KINDS)
def test_each_is_read_as_it_is_meant(style: str, kind: str) -> None:
    for reply in load_styles()[style][kind]:
        said = say(reply, "mx.big.test", "127.0.0.11", b"b@big.test")
        for provider in ("", style):
            reading = read_reply(said.code, said.status, said.text, provider=provider)
            assert reading.action in ACTIONS[kind], said


def test_what_a_stranger_calls_himself_is_taken_as_it_is() -> None:
    reply = Refusal(550, "5.1.1", "<{recipient}> at {host} for {address}")

    said = say(reply, "mx.test", "::1", b"{0.__class__}\xff@big.test")
    assert said.text == "<{0.__class__}�@big.test> at mx.test for ::1"
