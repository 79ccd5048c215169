"""Key records, and the way to them through a real name server."""

import base64
from contextlib import suppress

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from relay.config.schema import Dns
from relay.config.units import Seconds
from relay.dkim.key import Keys, choose_record, parse_key, read_key
from relay.dkim.tags import Unproven
from relay.net.resolver import NameUnavailable, Resolver
from tests.kit.nameserver import SERVFAIL, Nameserver, open_nameserver
from tests.relay.dkim.made import (
    ED25519,
    RECORD,
    RSA,
    make_record,
    make_short_key,
    seal,
    write_txt,
)

P = make_record(RSA).partition(b"p=")[2]


def test_both_kinds_of_key() -> None:
    for key in (RSA, ED25519):
        public = parse_key(make_record(key))

        assert public.algorithm == ("rsa" if key is RSA else "ed25519")
        assert not public.exact
        assert public.verify(seal(b"words", key), b"words")
        assert not public.verify(seal(b"words", key), b"word")
        assert not public.verify(b"", b"words")
        assert not public.verify(bytes(300), b"words")


def test_a_record_may_leave_almost_everything_out() -> None:
    for record in (b"p=" + P, b"k=rsa;p=" + P, b"n=words; h=sha1:SHA256; p=" + P + b" ; s=x:email"):
        assert parse_key(record).algorithm == "rsa"
    assert parse_key(b"v=DKIM1; t=s:other; p=" + P).exact


def test_the_older_form_of_an_rsa_key() -> None:
    der = RSA.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.PKCS1
    )
    public = parse_key(b"p=" + base64.b64encode(der))

    assert public.verify(seal(b"words", RSA), b"words")


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (b"v=DKIM1; p=", "revoked"),
        (b"v=DKIM1; k=rsa", "revoked"),
        (b"v=DKIM1; t=y; p=" + P, "only being tested"),
        (b"v=DKIM1; t=s : y; p=" + P, "only being tested"),
        (b"v=DKIM1; h=sha1; p=" + P, "not for SHA-256"),
        (b"v=DKIM1; s=tlsrpt; p=" + P, "not for mail"),
        (b"v=DKIM1; k=dsa; p=" + P, "kind of key"),
        (b"v=DKIM1; k=ed25519; p=" + P, "no Ed25519 key"),
        (b"v=DKIM1; k=rsa; p=AAAA", "no RSA key"),
        (b"v=DKIM1; p=?", "base64"),
        (b"v=DKIM1; p=%b; p=%b" % (P, P), "twice"),
        (b"v=DKIM1; n=" + b"x" * 4096 + b"; p=" + P, "more than 4096 octets"),
        (make_record(make_short_key(1016)), "the RSA key has 1016 bits"),
    ],
)
def test_what_is_no_key(record: bytes, words: str) -> None:
    with pytest.raises(Unproven, match=words):
        parse_key(record)


def test_an_elliptic_key_is_not_taken_for_rsa() -> None:
    der = ED25519.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with pytest.raises(Unproven, match="no RSA key"):
        parse_key(b"p=" + base64.b64encode(der))


def test_which_record_is_the_key() -> None:
    key = b"v=DKIM1; p=" + P
    others = [b"v=spf1 -all", b"v=DMARC1; p=none", b"words", b"v=DKIM2; p=x", b"v=DKIM1; k=rsa"]

    assert choose_record([*others, key]) == key
    assert choose_record([b" v = DKIM1 ;p="]) == b" v = DKIM1 ;p="
    assert choose_record([b"k=rsa; p=x"]) == b"k=rsa; p=x"
    for records, words in (
        ((), "no key in the DNS"),
        (others, "what is in the DNS is no key"),
        ((key, key), "several keys"),
        ((key, b"p="), "several keys"),
    ):
        with pytest.raises(Unproven, match=words):
            choose_record(records)


def test_a_key_is_parsed_once() -> None:
    record = b"v=DKIM1; n=once; p=" + P

    assert read_key((record,)) is read_key((bytes(bytearray(record)),))


@given(st.binary())
def test_any_record_is_a_key_or_unproven(record: bytes) -> None:
    for text in (record, b"v=DKIM1; k=ed25519; p=" + base64.b64encode(record)):
        with suppress(Unproven):
            assert parse_key(choose_record([text])).algorithm == "ed25519"


def open_keys(server: Nameserver) -> Keys:
    return Keys(Resolver(Dns(nameservers=(server.endpoint,), timeout=Seconds(2))))


async def test_keys_are_found_in_the_dns() -> None:
    zone = {
        RECORD: {"TXT": ['"v=spf1 -all"', write_txt(make_record(RSA))]},
        "alias._domainkey.acme.example": {"CNAME": [f"{RECORD}."]},
        "empty._domainkey.acme.example": {"TXT": ['"v=DKIM1; p="']},
        "down._domainkey.acme.example": SERVFAIL,
    }
    async with open_nameserver(zone) as server:
        keys = open_keys(server)

        assert (await keys.find("s", "acme.example")).verify(seal(b"words", RSA), b"words")
        assert await keys.find("alias", "acme.example") == await keys.find("s", "acme.example")
        assert server.queries.count((RECORD, "TXT")) == 1
        with pytest.raises(Unproven, match="no key in the DNS"):
            await keys.find("none", "acme.example")
        with pytest.raises(Unproven, match="revoked"):
            await keys.find("empty", "acme.example")
        with pytest.raises(Unproven, match="no key in the DNS"):
            await keys.find("s" * 63, ".".join(["d" * 63] * 3))  # longer than a name can be
        with pytest.raises(NameUnavailable):
            await keys.find("down", "acme.example")
