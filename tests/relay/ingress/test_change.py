"""What a rule changes in a message, and when it is signed again."""

import pytest

from relay.config.policy import Footer, Tag
from relay.dkim.sign import Signer
from relay.ingress.change import change
from tests.kit.signing import SigningDomain

MESSAGE = b"From: a@acme.example\r\nSubject: x\r\n\r\nhello\r\n"
FOOTER = Footer(name="legal", text="Acme Ltd")
SIGNED = SigningDomain("acme.example").sign(MESSAGE)
OURS = Signer("acme.example", "new", SigningDomain("acme.example").key)


def test_a_tag_that_nobody_signed_breaks_nothing() -> None:
    done = change(SIGNED, Tag(name="X-Checked", value="yes"), None, [OURS])

    assert done.message == b"X-Checked: yes\r\n" + SIGNED
    assert done.what == ["tag"]


def test_a_tag_in_a_field_that_is_signed_needs_a_key() -> None:
    tag = Tag(name="Subject", value="[acme]")

    without = change(SIGNED, tag, None, [])
    assert without.message is None
    assert without.not_done == ["tag: Subject is signed, and there is no key to sign it again"]

    done = change(SIGNED, tag, None, [OURS])
    assert done.message is not None
    assert done.message.endswith(b"Subject: [acme]\r\n" + SIGNED)
    assert done.message.startswith(b"DKIM-Signature:")
    assert done.what == ["tag", "signed by acme.example"]


@pytest.mark.parametrize(("message", "signed"), [(MESSAGE, 0), (SIGNED, 2)])
def test_a_footer_breaks_what_was_signed_and_nothing_else(message: bytes, signed: int) -> None:
    done = change(message, None, FOOTER, [OURS, OURS])

    assert done.message is not None
    assert done.message.count(b"Acme Ltd") == 1
    assert done.message.count(b"DKIM-Signature:") == signed + message.count(b"DKIM-Signature:")


def test_both_are_signed_together() -> None:
    done = change(SIGNED, Tag(name="X-Checked", value="yes"), FOOTER, [OURS])

    assert done.what == ["footer", "tag", "signed by acme.example"]
    assert done.message is not None
    assert done.message.count(b"DKIM-Signature:") == 2


def test_what_cannot_have_a_footer_can_have_a_tag() -> None:
    message = b"Content-Type: multipart/encrypted; boundary=x\r\n\r\n--x\r\n\r\n--x--\r\n"
    done = change(message, Tag(name="X-Checked", value="yes"), FOOTER, [])

    assert done.message == b"X-Checked: yes\r\n" + message
    assert done.what == ["tag"]
    assert done.not_done[0].startswith("footer: ")


@pytest.mark.parametrize("blank", [b" ", b"\t"])
def test_nothing_goes_on_top_of_what_would_become_a_part_of_it(blank: bytes) -> None:
    done = change(blank + b"no\r\n" + SIGNED, Tag(name="X-Checked", value="yes"), FOOTER, [OURS])

    assert done.message is None
    assert done.what == []
    assert done.not_done == ["its head begins in the middle of a field"]
