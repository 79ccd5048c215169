import msgspec
import pytest

from relay.model import (
    Delivery,
    Envelope,
    Recipient,
    derive_message_id,
    make_message_id,
    read_home,
)


def test_a_message_id_is_sortable_and_knows_its_home() -> None:
    early, late = make_message_id(7, now=1e9), make_message_id(0, now=1e9 + 0.001)

    assert len(early) == len(late) == 24
    assert early < late
    assert (read_home(early), read_home(late)) == (7, 0)


def test_ids_do_not_repeat() -> None:
    assert len({make_message_id(1, now=1) for _ in range(1000)}) == 1000


@pytest.mark.parametrize("shard", [0, 1, 15, 31, 32, 1023])
def test_every_home_can_be_read(shard: int) -> None:
    assert read_home(make_message_id(shard)) == shard


@pytest.mark.parametrize("text", ["", "x", "A" * 23, "A" * 25, "A" * 22 + "UA", "A" * 23 + "\n"])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a message id"):
        read_home(text)


def test_a_derived_id_is_the_same_for_the_same_digest() -> None:
    origin = make_message_id(3, now=1e9)

    one = derive_message_id(origin, b"12345678", 5)

    assert one == derive_message_id(origin, b"12345678more", 5)
    assert one != derive_message_id(origin, b"12345679", 5)
    assert one[:10] == origin[:10]
    assert read_home(one) == 5


def test_a_delivery_is_stored_and_read_unchanged() -> None:
    envelope = Envelope(
        b"a@x", (Recipient(b"\xff@y", b"NEVER", b"rfc822;z"),), b"8BITMIME", True, b"HDRS", b"Q"
    )
    delivery = Delivery(
        id="M.0", tenant="t", pool="p", domain="y", envelope=envelope, size=1,
        chunks=2, accepted=3.5, home=4, alone=False, newline=False, notice=True,
    )  # fmt: skip

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(delivery), type=Delivery) == delivery


def test_a_stored_delivery_of_an_older_version_is_read() -> None:
    delivery = Delivery("M.0", "t", "p", "y", Envelope(b"", ()), 1, 1, 0.0, 4, alone=True)
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(delivery))

    without_defaults = msgspec.msgpack.encode(fields[:10])

    assert msgspec.msgpack.decode(without_defaults, type=Delivery) == delivery


@pytest.mark.parametrize(
    ("sender", "tls", "demand"),
    [
        (b"a@x.test", "required", "required"),
        (b"a@x.test", "optional", "optional"),
        (b"a@x.test", "", ""),
        (b"", "required", ""),
        (b"", "optional", "optional"),
    ],
)
def test_only_mail_that_has_a_sender_demands_tls(sender: bytes, tls: str, demand: str) -> None:
    assert Envelope(sender, (), tls=tls).tls_demand == demand
