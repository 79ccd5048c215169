import email
import re
from email.utils import parsedate_to_datetime

import pytest

from relay.ingress.head import cut_head
from relay.ingress.trace import count_hops, make_received


def make(**changes: object) -> bytes:
    values: dict[str, object] = {
        "hello": b"me.test", "client": "192.0.2.1", "hostname": "gw.example.net",
        "message_id": "ID", "protocol": "ESMTP", "tls": "", "recipient": None,
    }  # fmt: skip
    return make_received(**(values | changes))  # type: ignore[arg-type]


def test_the_line_is_folded_and_has_a_date() -> None:
    line = make()

    head, date = line.split(b"; ")
    assert head == (
        b"Received: from me.test ([192.0.2.1])\r\n\tby gw.example.net (outgate) with ESMTP id ID"
    )
    assert parsedate_to_datetime(date.decode()).tzinfo is None  # -0000: no zone is claimed
    assert re.fullmatch(rb"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d -0000\r\n", date)


def test_ipv6_has_its_tag() -> None:
    assert b"([IPv6:2001:db8::1])" in make(client="2001:db8::1")


def test_tls_and_a_lone_recipient_are_named() -> None:
    line = make(tls="TLSv1.3 X", recipient=b"b@y.test", protocol="ESMTPS")

    assert b" with ESMTPS id ID\r\n\t(TLSv1.3 X)\r\n\tfor <b@y.test>; " in line


def test_an_international_recipient_stays_what_it_was() -> None:
    assert "for <ö@y.test>".encode() in make(recipient="ö@y.test".encode())


@pytest.mark.parametrize(
    "hello", [b"a(b", b"a)", b"((((", b"\xff\xfe", b"x" * 255, b'"', b";", b"a\\", b"[1.2.3.4]"]
)
def test_whatever_a_client_calls_itself_the_line_stays_one_header(hello: bytes) -> None:
    line = make(hello=hello, tls="T" * 60, recipient=b"r" * 320)

    message = email.message_from_bytes(line + b"\r\nbody")
    assert message.keys() == ["Received"]
    assert message.get_payload() == "body"
    assert line.count(b"(") == line.count(b")") == 3
    assert max(map(len, line.split(b"\r\n"))) <= 998  # RFC 5322 §2.1.1
    assert line.split(b"\r\n")[0].isascii()


@pytest.mark.parametrize(
    ("head", "hops"),
    [
        (b"", 0),
        (b"Received: a\r\n\r\n", 1),
        (b"RECEIVED: a\r\nreceived: b\r\n\tReceived: folded\r\nX-Received: no\r\n\r\n", 2),
        (b"Subject: x\r\n\r\nReceived: in the body\r\n", 0),
        (b"Received: a\r\nSubject: no end", 1),
    ],
)
def test_hops_are_counted_in_the_head(head: bytes, hops: int) -> None:
    assert count_hops(cut_head(head)) == hops
