"""Which message of ours a head is of: by our own Received field, and by nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.feedback import find_message_id
from relay.ingress.trace import make_received
from relay.model import make_message_id
from relay.store.keys import SHARDS
from tests.kit.reports import HOSTNAME, make_original, make_trace

ID = make_message_id(7)


@pytest.mark.parametrize("tls", ["", "TLSv1.3 TLS_AES_256_GCM_SHA384"])
@pytest.mark.parametrize("recipient", [None, b"bob@y.test"])
@pytest.mark.parametrize("client", ["192.0.2.1", "2001:db8::1"])
def test_the_field_that_we_write(tls: str, recipient: bytes | None, client: str) -> None:
    trace = make_received(
        hello=b"mail.acme.example",
        client=client,
        hostname=HOSTNAME,
        message_id=ID,
        protocol="UTF8SMTPS",
        tls=tls,
        recipient=recipient,
    )
    head = b"Received: from x by y with SMTP id 1; now\r\n" + trace + b"Subject: x\r\n"

    assert find_message_id(head, HOSTNAME) == ID


def test_folded_anew_by_others() -> None:
    folded = make_trace(ID).replace(b" by ", b"\r\n   by   ").replace(b" id ", b"\r\n\tid\t")

    assert find_message_id(folded, HOSTNAME.upper()) == ID


def test_of_two_the_later() -> None:
    assert find_message_id(make_trace(ID) + make_trace(make_message_id(3)), HOSTNAME) == ID


@pytest.mark.parametrize(
    "head",
    [
        b"",
        make_original(ID, hostname="other.example.net"),
        make_original(ID, hostname="x" + HOSTNAME),
        make_original(ID[:-1]),
        make_original(ID + "0"),
        make_original(ID.lower()),
        make_original(ID[:22] + "0G"),  # there is no such shard
        make_trace(ID).replace(b"Received:", b"X-Received:"),
        make_trace(ID).replace(b"(outgate)", b"(Postfix)"),
        b"Subject: " + make_trace(ID),
        b"\r\n" + make_trace(ID),
        b"Received: from a by b;\r\n" * 200 + make_trace(ID),
    ],
)
def test_what_is_not_ours(head: bytes) -> None:
    assert SHARDS == 16
    assert find_message_id(head, HOSTNAME) == ""


@given(st.binary(), st.integers(0, 200), st.binary(max_size=4))
def test_whatever_stands_there(before: bytes, at: int, patch: bytes) -> None:
    trace = make_trace(ID)
    for head in (before, before + b"\r\n" + trace, trace[:at] + patch + trace[at + len(patch) :]):
        found = find_message_id(head, HOSTNAME)
        assert not found or len(found) == 24
