"""Notices, read back with the standard library's parser, and attacked through every field."""

import email
import email.policy
from email.message import EmailMessage
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.model import Blame, Delivery, Disposition, Envelope, Outcome, Recipient
from workers.notice import Kind, is_wanted, make_notice

ORIGINAL = (
    b"Received: from mail.example.org by gate.example.net; Mon, 01 Jan 2024 00:00:00 +0000\r\n"
    b"From: Ann <ann@example.org>\r\n"
    b"Message-ID: <1234@example.org>\r\n"
    b"Subject: the plan,\r\n\tfolded\r\n"
    b"\r\n"
    b"The body.\r\n"
)
ACCEPTED = 1_704_067_200.0  # Mon, 1 Jan 2024 00:00:00 +0000
NO_SUCH_USER = Outcome(
    Disposition.BOUNCED,
    Blame.RECIPIENT,
    "RCPT",
    550,
    "5.1.1",
    "5.1.1 bob@there.test: no such user",
)
NO_DOMAIN = Outcome(
    Disposition.BOUNCED, Blame.RECIPIENT, status="5.1.2", text="there.test: no such name in the DNS"
)
EXPIRED = Outcome(
    Disposition.DEFERRED, Blame.HOST, "CONNECT", 0, "4.4.1", "192.0.2.1 port 25: timed out"
)
BOB = Recipient(b"bob@there.test")


def make_delivery(original: bytes = ORIGINAL, **changes: Any) -> Delivery:
    fields = {"sender": b"ann@example.org", "recipients": (BOB,)}
    fields |= {
        name: changes.pop(name) for name in list(changes) if name in Envelope.__struct_fields__
    }
    delivery = Delivery(
        id="M.0",
        tenant="acme",
        pool="default",
        domain="there.test",
        envelope=Envelope(**fields),
        size=len(original),
        chunks=1,
        accepted=ACCEPTED,
        home=0,
        alone=True,
    )
    return msgspec.structs.replace(delivery, **changes)


def bounce(
    *failures: tuple[Recipient, Outcome], original: bytes = ORIGINAL, **changes: Any
) -> tuple[Envelope, bytes]:
    made = make_notice(
        changes.pop("kind", Kind.FAILED),
        changes.pop("delivery", None) or make_delivery(original, **changes),
        failures or [(BOB, NO_SUCH_USER)],
        original=original,
        hostname="gate.example.net",
        message_id="01HKQ0",
        now=ACCEPTED + 5 * 86400,
        remote="mx.there.test",
        until=ACCEPTED + 10 * 86400,
    )
    assert made is not None
    check(made[1])
    return made


def check(content: bytes) -> None:
    """What must hold for every notice, whatever others have written into it."""
    lines = content.split(b"\r\n")
    assert lines[-1] == b""
    assert not any(b"\r" in line or b"\n" in line or b"\0" in line for line in lines)
    assert max(map(len, lines)) <= 998
    names = [part.get_content_type() for part in parse(content)[1]]
    assert len(names) == 3, names


def parse(content: bytes) -> tuple[EmailMessage, list[EmailMessage]]:
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    return message, list(message.iter_parts())  # type: ignore[arg-type]


def read_groups(content: bytes) -> list[dict[str, str]]:
    """Return the fields of the delivery status: of the message, then of each recipient."""
    part = content.split(b"delivery-status\r\nContent-Transfer-Encoding: ")[1]
    part = part.partition(b"\r\n\r\n")[2].partition(b"\r\n--=_")[0].replace(b"\r\n ", b" ")
    groups = part.strip(b"\r\n").split(b"\r\n\r\n")
    return [dict(line.decode().split(": ", 1) for line in group.split(b"\r\n")) for group in groups]


def test_notice_goes_to_the_sender_from_nobody() -> None:
    envelope, content = bounce()
    message, _ = parse(content)

    assert envelope == Envelope(sender=b"", recipients=(Recipient(b"ann@example.org"),))
    assert message["From"] == "Mail Delivery System <MAILER-DAEMON@gate.example.net>"
    assert message["To"] == "ann@example.org"
    assert b"\r\nTo: <ann@example.org>\r\n" in content
    assert message["Date"] == "Sat, 06 Jan 2024 00:00:00 +0000"
    assert message["Message-ID"] == "<01HKQ0@gate.example.net>"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["In-Reply-To"] == message["References"] == "<1234@example.org>"
    assert message["Subject"] == "Delivery Status Notification (Failure)"
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"


def test_parts_are_those_of_the_standard() -> None:
    _, parts = parse(bounce()[1])

    assert [part.get_content_type() for part in parts] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]


def test_fields_of_a_refused_recipient() -> None:
    recipient = Recipient(b"bob@there.test", b"FAILURE", b"rfc822;Bob+2Btag@there.test")
    _, content = bounce((recipient, NO_SUCH_USER), envid=b"QQ+2B314159")

    assert read_groups(content) == [
        {
            "Reporting-MTA": "dns; gate.example.net",
            "Original-Envelope-Id": "QQ+314159",
            "Arrival-Date": "Mon, 1 Jan 2024 00:00:00 +0000",
        },
        {
            "Original-Recipient": "rfc822;Bob+tag@there.test",
            "Final-Recipient": "rfc822; bob@there.test",
            "Action": "failed",
            "Status": "5.1.1",
            "Remote-MTA": "dns; mx.there.test",
            "Diagnostic-Code": "smtp; 550 5.1.1 bob@there.test: no such user",
            "Last-Attempt-Date": "Sat, 6 Jan 2024 00:00:00 +0000",
        },
    ]


def test_each_recipient_has_its_own_fields_and_words() -> None:
    carl = Recipient(b"carl@there.test")
    _, content = bounce((BOB, NO_SUCH_USER), (carl, EXPIRED))

    _, bob, expired = read_groups(content)
    words = parse(content)[1][0].get_content().replace("\r\n", "\n")

    assert bob["Status"] == "5.1.1"
    assert expired["Status"] == "4.4.7"
    assert expired["Diagnostic-Code"] == "x-outgate; 192.0.2.1 port 25: timed out"
    assert "Remote-MTA" not in expired
    assert "<bob@there.test>" in words
    assert "in answer to the RCPT command:\n        550 5.1.1 bob@there.test: no such" in words
    assert "<carl@there.test>\n    could not be delivered for 5 days; the last attempt" in words
    assert "4.4.1 192.0.2.1 port 25: timed out" in words


def test_what_we_found_ourselves_is_not_said_to_be_the_remotes() -> None:
    _, content = bounce((BOB, NO_DOMAIN))

    fields = read_groups(content)[1]
    assert "Remote-MTA" not in fields
    assert fields["Diagnostic-Code"] == "x-outgate; there.test: no such name in the DNS"
    assert "refused by" not in parse(content)[1][0].get_content()


@pytest.mark.parametrize(
    "delivery",
    [
        make_delivery(sender=b""),
        make_delivery(notice=True),
    ],
    ids=["null sender", "notice"],
)
def test_no_notice_about_a_notice(delivery: Delivery) -> None:
    assert make(delivery, BOB) is None


def make(delivery: Delivery, *recipients: Recipient) -> tuple[Envelope, bytes] | None:
    return make_notice(
        Kind.FAILED,
        delivery,
        [(recipient, NO_SUCH_USER) for recipient in recipients],
        original=ORIGINAL,
        hostname="gate.example.net",
        message_id="1",
        now=ACCEPTED,
        remote="",
    )


@pytest.mark.parametrize(
    ("notify", "told"),
    [
        (b"", True),
        (b"FAILURE", True),
        (b"success,failure", True),
        (b"NEVER", False),
        (b"SUCCESS,DELAY", False),
    ],
)
def test_notify_decides_who_is_told_about(notify: bytes, told: bool) -> None:
    quiet = Recipient(b"quiet@there.test", notify)

    made = make(make_delivery(), BOB, quiet)

    assert made is not None
    assert (b"quiet@there.test" in made[1]) is told
    assert (make(make_delivery(), quiet) is not None) is told


# -- delays and successes

GREYLISTED = Outcome(
    Disposition.DEFERRED, Blame.RECIPIENT, "RCPT", 450, "4.2.0", "4.2.0 greylisted"
)
TAKEN = Outcome(Disposition.DELIVERED, None, ".", 250, "2.0.0", "2.0.0 queued as 17")


def test_delay_says_until_when_it_is_tried() -> None:
    _, content = bounce((BOB, GREYLISTED), kind=Kind.DELAYED)

    message, parts = parse(content)
    words = parts[0].get_content()
    assert message["Subject"] == "Delivery Status Notification (Delay)"
    assert "This is a warning only" in words
    assert "Thu, 11 Jan 2024 00:00:00 +0000" in words
    assert "has waited for 5 days" in words
    assert "450 4.2.0 greylisted" in words
    assert "could not be delivered to the recipients below. It will not" not in words
    assert read_groups(content)[1] == {
        "Final-Recipient": "rfc822; bob@there.test",
        "Action": "delayed",
        "Status": "4.2.0",
        "Remote-MTA": "dns; mx.there.test",
        "Diagnostic-Code": "smtp; 450 4.2.0 greylisted",
        "Last-Attempt-Date": "Sat, 6 Jan 2024 00:00:00 +0000",
        "Will-Retry-Until": "Thu, 11 Jan 2024 00:00:00 +0000",
    }


def test_relay_says_that_it_was_taken_and_not_more() -> None:
    recipient = Recipient(b"bob@there.test", b"SUCCESS", b"rfc822;bob@list.test")
    _, content = bounce((recipient, TAKEN), kind=Kind.RELAYED, envid=b"QQ+2B3")

    message, parts = parse(content)
    words = parts[0].get_content()
    assert message["Subject"] == "Delivery Status Notification (Relay)"
    assert "was accepted by the recipient's mail server" in words
    assert "hear no more of it" in words
    first, second = read_groups(content)
    assert first["Original-Envelope-Id"] == "QQ+3"
    assert second == {
        "Original-Recipient": "rfc822;bob@list.test",
        "Final-Recipient": "rfc822; bob@there.test",
        "Action": "relayed",
        "Status": "2.0.0",
        "Remote-MTA": "dns; mx.there.test",
        "Diagnostic-Code": "smtp; 250 2.0.0 queued as 17",
        "Last-Attempt-Date": "Sat, 6 Jan 2024 00:00:00 +0000",
    }


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [
        (Kind.FAILED, "5.1.1", "5.1.1"),
        (Kind.FAILED, "4.7.1", "4.7.1"),
        (Kind.FAILED, "2.0.0", "5.0.0"),
        (Kind.FAILED, "", "5.0.0"),
        (Kind.DELAYED, "4.7.1", "4.7.1"),
        (Kind.DELAYED, "5.7.1", "4.0.0"),
        (Kind.DELAYED, "", "4.0.0"),
        (Kind.RELAYED, "2.6.0", "2.6.0"),
        (Kind.RELAYED, "5.6.0", "2.0.0"),
        (Kind.RELAYED, "", "2.0.0"),
    ],
)
def test_status_is_of_the_notices_own_class(kind: Kind, status: str, expected: str) -> None:
    recipient = Recipient(b"bob@there.test", b"SUCCESS,FAILURE,DELAY")
    outcome = msgspec.structs.replace(NO_SUCH_USER, status=status)

    assert read_groups(bounce((recipient, outcome), kind=kind)[1])[1]["Status"] == expected


@pytest.mark.parametrize("kind", [Kind.DELAYED, Kind.RELAYED])
def test_whole_message_comes_back_only_with_bad_news(kind: Kind) -> None:
    recipient = Recipient(b"bob@there.test", b"SUCCESS,DELAY")
    content = bounce((recipient, TAKEN), kind=kind, ret=b"FULL")[1]

    assert b"text/rfc822-headers" in content
    assert b"The body." not in content


@pytest.mark.parametrize("kind", [Kind.DELAYED, Kind.RELAYED])
def test_every_kind_has_the_global_form(kind: Kind) -> None:
    recipient = Recipient("börje@there.test".encode(), b"SUCCESS,DELAY")
    content = bounce((recipient, TAKEN), kind=kind, smtputf8=True)[1]

    assert [part.get_content_type() for part in parse(content)[1]] == [
        "text/plain",
        "message/global-delivery-status",
        "message/global-headers",
    ]
    assert read_groups(content)[1]["Final-Recipient"] == "utf-8; börje@there.test"


@pytest.mark.parametrize(
    ("notify", "kinds"),
    [
        (b"", {Kind.FAILED, Kind.DELAYED}),
        (b"NEVER", set()),
        (b"SUCCESS", {Kind.RELAYED}),
        (b"FAILURE", {Kind.FAILED}),
        (b"DELAY", {Kind.DELAYED}),
        (b"delay,Success", {Kind.DELAYED, Kind.RELAYED}),
        (b"SUCCESS,FAILURE,DELAY", {Kind.FAILED, Kind.DELAYED, Kind.RELAYED}),
        (b"nonsense", set()),
    ],
)
def test_notify_lets_the_sender_choose(notify: bytes, kinds: set[Kind]) -> None:
    recipient = Recipient(b"bob@there.test", notify)

    assert {kind for kind in Kind if is_wanted(kind, recipient)} == kinds


# -- the original


def test_headers_come_back_by_default() -> None:
    part = parse(bounce()[1])[1][2]

    assert part.get_content_type() == "text/rfc822-headers"
    text = part.get_payload(decode=True)
    assert isinstance(text, bytes)
    assert text.startswith(ORIGINAL.partition(b"\r\n\r\n")[0].replace(b"\t", b" "))
    assert b"The body." not in text


def test_whole_message_comes_back_when_asked_for() -> None:
    content = bounce(ret=b"FULL")[1]

    assert b"Content-Type: message/rfc822\r\n" in content
    assert b"\r\n\r\n" + ORIGINAL + b"\r\n--=_" in content


@pytest.mark.parametrize("kind", Kind)
def test_message_that_required_tls_leaves_its_headers_and_they_require_it_too(kind: Kind) -> None:
    recipient = Recipient(b"bob@there.test", b"SUCCESS,FAILURE,DELAY")
    envelope, content = bounce((recipient, TAKEN), kind=kind, ret=b"FULL", tls="required")

    assert b"text/rfc822-headers" in content
    assert b"The body." not in content
    assert envelope.tls == "required"
    assert envelope.tls_demand == ""  # better in clear than not at all


def test_wish_for_no_tls_is_the_messages_and_not_the_notices() -> None:
    envelope, content = bounce(ret=b"FULL", tls="optional")

    assert b"The body." in content
    assert envelope.tls == ""


@pytest.mark.parametrize(
    "original",
    [
        ORIGINAL + b"x" * 70 + b"\r\n" * 40_000,
        ORIGINAL + b"x" * 999 + b"\r\n",
        ORIGINAL + b"a\nb\r\n",
        ORIGINAL + b"\0\r\n",
    ],
    ids=["large", "long line", "bare LF", "NUL"],
)
def test_message_that_cannot_come_back_whole_leaves_its_headers(original: bytes) -> None:
    content = bounce(original=original, ret=b"FULL")[1]

    assert b"message/rfc822" not in content
    assert b"Subject: the plan" in content


def test_message_that_is_not_all_there_leaves_its_headers() -> None:
    delivery = make_delivery(ORIGINAL + b"more", ret=b"FULL")

    assert b"message/rfc822" not in bounce(delivery=delivery)[1]


@pytest.mark.parametrize(
    ("original", "expected"),
    [
        (b"", b""),
        (b"\r\nbody only\r\n", b""),
        (b"A: 1\r\nB: cut o", b"A: 1\r\n"),
        (b"A: 1\r\n", b"A: 1\r\n"),
        (b"A: 1\r\n\r\nbody", b"A: 1\r\n"),
    ],
)
def test_headers_are_taken_as_far_as_they_go(original: bytes, expected: bytes) -> None:
    content = bounce(original=original)[1]

    rest = content.partition(b"text/rfc822-headers\r\n")[2].partition(b"\r\n\r\n")[2]
    assert rest.rpartition(b"\r\n--=_")[0] == (expected or b"\r\n")


@pytest.mark.parametrize(
    "header",
    [b"<a b@c>", b"<a@b>, <c@d>", b"none", b"<a@b", b"<" + b"x" * 200 + b"@b>", b"<\xe9@b>"],
)
def test_malformed_message_id_is_not_repeated(header: bytes) -> None:
    _, content = bounce(original=b"Message-ID: " + header + b"\r\n\r\n")

    assert parse(content)[0]["In-Reply-To"] is None


@pytest.mark.parametrize("header", [b"message-id:\r\n <a@b>", b"MESSAGE-ID:<a@b> "])
def test_well_formed_message_id_is_found(header: bytes) -> None:
    _, content = bounce(original=b"X: y\r\n" + header + b"\r\n\r\nMessage-ID: <no@body>\r\n")

    assert parse(content)[0]["In-Reply-To"] == "<a@b>"


def test_8_bit_content_is_declared() -> None:
    envelope, content = bounce(original=b"Subject: caf\xc3\xa9\r\n\r\n")

    assert (envelope.body, envelope.smtputf8) == (b"8BITMIME", False)
    message, parts = parse(content)
    assert message["Content-Transfer-Encoding"] == "8bit"
    assert [part["Content-Transfer-Encoding"] for part in parts] == ["7bit", "7bit", "8bit"]


def test_7_bit_content_asks_for_nothing() -> None:
    envelope, content = bounce()

    assert (envelope.body, envelope.smtputf8) == (b"", False)
    assert content.isascii()


# -- internationalised mail


def test_international_recipient_has_the_global_types() -> None:
    recipient = Recipient("börje@there.test".encode(), orcpt=rb"utf-8;b\x{F6}rje@there.test")
    envelope, content = bounce((recipient, NO_SUCH_USER), smtputf8=True, ret=b"HDRS")

    assert (envelope.body, envelope.smtputf8) == (b"8BITMIME", False)
    assert [part.get_content_type() for part in parse(content)[1]] == [
        "text/plain",
        "message/global-delivery-status",
        "message/global-headers",
    ]
    fields = read_groups(content)[1]
    assert fields["Final-Recipient"] == "utf-8; börje@there.test"
    assert fields["Original-Recipient"] == "utf-8;börje@there.test"
    assert "börje@there.test" in parse(content)[1][0].get_content()


def test_international_sender_needs_smtputf8() -> None:
    envelope, content = bounce(sender="änn@example.org".encode(), ret=b"FULL")

    assert (envelope.body, envelope.smtputf8) == (b"8BITMIME", True)
    assert "\r\nTo: <änn@example.org>\r\n".encode() in content
    assert b"Content-Type: message/global\r\n" in content


def test_original_recipient_stays_encoded_in_a_7_bit_notice() -> None:
    recipient = Recipient(b"bob@there.test", orcpt=rb"utf-8;b\x{F6}rje@there.test")

    fields = read_groups(bounce((recipient, NO_SUCH_USER))[1])[1]

    assert fields["Original-Recipient"] == r"utf-8;b\x{F6}rje@there.test"


# -- hostile input


@pytest.mark.parametrize(
    "orcpt",
    [b"rfc822", b"rfc822;", b";x", b"rfc822;a+0D+0AX: y", b"rfc822;a+zz", b"r f;x", b"rfc822;a b"],
)
def test_original_recipient_that_makes_no_sense_is_left_out(orcpt: bytes) -> None:
    recipient = Recipient(b"bob@there.test", orcpt=orcpt)

    assert "Original-Recipient" not in read_groups(bounce((recipient, NO_SUCH_USER))[1])[1]


@pytest.mark.parametrize("envid", [b"a+0D+0AX-Evil: y", b"+", b"a=b", b"+20"])
def test_envelope_id_that_makes_no_sense_is_left_out(envid: bytes) -> None:
    assert "Original-Envelope-Id" not in read_groups(bounce(envid=envid)[1])[0]


def test_boundary_is_another_when_the_content_has_it() -> None:
    original = b"X: y\r\n\r\n--=_01HKQ0--\r\n--=_01HKQ0.1\r\n"
    content = bounce(original=original, ret=b"FULL")[1]

    assert original in content
    assert b'boundary="=_01HKQ0.2"' in content


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(5, "less than a minute"), (60, "1 minute"), (7200, "2 hours"), (432_000, "5 days")],
)
def test_time_waited_is_in_plain_words(seconds: float, words: str) -> None:
    delivery = make_delivery(accepted=ACCEPTED + 5 * 86400 - seconds)

    content = bounce((BOB, EXPIRED), delivery=delivery)[1]

    assert f"for {words};".encode() in content


hostile = st.text(max_size=1500) | st.text("\r\n\t .-:x\0é\u2028", max_size=600)
octets = st.binary(min_size=1, max_size=400) | st.text("\r\n\0@<>é x", min_size=1).map(str.encode)


@settings(deadline=None)
@given(text=hostile, status=st.text(max_size=12), code=st.integers(0, 999), remote=hostile)
def test_no_answer_can_break_the_notice(text: str, status: str, code: int, remote: str) -> None:
    outcome = Outcome(Disposition.BOUNCED, Blame.RECIPIENT, "RCPT", code, status, text)
    made = make_notice(
        Kind.FAILED,
        make_delivery(),
        [(BOB, outcome)],
        original=ORIGINAL,
        hostname="gate.example.net",
        message_id="1",
        now=ACCEPTED,
        remote=remote,
    )

    assert made is not None
    check(made[1])
    assert made[1].isascii()
    allowed = {"Final-Recipient", "Action", "Status", "Remote-MTA", "Last-Attempt-Date"}
    (_, fields) = read_groups(made[1])
    assert set(fields) <= allowed | {"Diagnostic-Code"}


@settings(deadline=None)
@given(address=octets, sender=octets, orcpt=octets, envid=octets, utf8=st.booleans())
def test_no_address_can_break_the_notice(
    address: bytes, sender: bytes, orcpt: bytes, envid: bytes, utf8: bool
) -> None:
    recipient = Recipient(address, orcpt=b"utf-8;" + orcpt)

    envelope, content = bounce((recipient, NO_SUCH_USER), sender=sender, envid=envid, smtputf8=utf8)

    head = content.partition(b"\r\n\r\n")[0]
    assert len(head.split(b"\r\n")) == 12
    assert len(read_groups(content)) == 2
    assert envelope.body == (b"" if content.isascii() else b"8BITMIME")


@settings(deadline=None)
@given(original=st.binary(max_size=3000), ret=st.sampled_from([b"", b"FULL"]), utf8=st.booleans())
def test_no_original_can_break_the_notice(original: bytes, ret: bytes, utf8: bool) -> None:
    bounce(original=original, ret=ret, smtputf8=utf8)
