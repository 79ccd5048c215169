"""TLSA records against chains: every combination, and what hostile zones and hosts come up with."""

import datetime as dt
import hashlib
import itertools
import time
from collections.abc import Sequence

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from relay.net.resolver import Tlsa
from tests.kit.authority import (
    Authority,
    Issued,
    Key,
    make_alternatives,
    make_authority_extensions,
    make_self_signed,
    make_tlsa,
    sign,
)
from workers.tls.chain import to_der
from workers.tls.dane import find_usable, verify
from workers.tls.guard import TlsUntrusted

NAME = "mx.test"
NOW = dt.datetime.now(dt.UTC)
ROOT = Authority("The Root")
MIDDLE = ROOT.make_intermediate("Middle")
OTHER = Authority()

GOOD = MIDDLE.issue(NAME)
FULL = GOOD.showing(MIDDLE.certificate, ROOT.certificate)  # as RFC 7671 §5.2.2 wants it
EXPIRED = MIDDLE.issue(NAME, not_after=-1)
WRONG = MIDDLE.issue("other.test")
NEXT = MIDDLE.issue(NAME)  # after the rollover

PAIRS = list(itertools.product((0, 1), (0, 1, 2)))  # selector and matching type
COMBINATIONS = list(itertools.product((2, 3), (0, 1), (0, 1, 2)))
each_combination = pytest.mark.parametrize(
    ("usage", "selector", "matching"),
    COMBINATIONS,
    ids=["".join(map(str, c)) for c in COMBINATIONS],
)


def hold(issued: Issued, *records: Tlsa, names: Sequence[str] = (NAME,)) -> str:
    """Return how the host was verified, or what reports say."""
    try:
        return verify(issued.chain, records, names, NOW)
    except TlsUntrusted as error:
        return error.failing


def make_key_record(key: Key) -> Tlsa:
    """Return a "2 1 0" record of a bare key."""
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    return Tlsa(2, 1, 0, key.public_key().public_bytes(serialization.Encoding.DER, spki))


# -- what can be used


@each_combination
def test_every_combination_of_our_own_is_usable(usage: int, selector: int, matching: int) -> None:
    record = make_tlsa(GOOD.certificate, usage, selector, matching)

    assert find_usable([record]) == (record,)


SPOILT = {
    "PKIX-TA": ROOT.tlsa(0, 0, 1),
    "PKIX-EE": GOOD.tlsa(1, 1, 1),
    "usage 4": GOOD.tlsa(4, 1, 1),
    "private usage": GOOD.tlsa(255, 1, 1),
    "selector 2": GOOD.tlsa(3, 1, 1)._replace(selector=2),
    "matching type 3": GOOD.tlsa(3, 1, 1)._replace(matching=3),
    "SHA-256 too short": GOOD.tlsa(3, 1, 1)._replace(data=b"x" * 31),
    "SHA-256 too long": GOOD.tlsa(3, 1, 1)._replace(data=b"x" * 33),
    "SHA-512 as long as SHA-256": GOOD.tlsa(3, 1, 2)._replace(data=b"x" * 32),
    "no digest": GOOD.tlsa(3, 1, 1)._replace(data=b""),
    "no certificate": Tlsa(3, 0, 0, b""),
    "a key where a certificate should be": GOOD.tlsa(3, 1, 0)._replace(selector=0),
    "a certificate where a key should be": GOOD.tlsa(3, 0, 0)._replace(selector=1),
    "a certificate and more": Tlsa(3, 0, 0, to_der(GOOD.certificate) + b"\0"),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_what_cannot_be_used(kind: str) -> None:
    assert find_usable([SPOILT[kind]]) == ()
    assert hold(GOOD, SPOILT[kind]) == "tlsa-invalid"


@pytest.mark.parametrize("kind", SPOILT)
def test_what_cannot_be_used_does_no_harm_to_others(kind: str) -> None:
    assert hold(GOOD, SPOILT[kind], GOOD.tlsa()) == "dane-ee"


def test_without_records_nothing_holds() -> None:
    assert hold(GOOD) == "tlsa-invalid"


records = st.builds(
    Tlsa,
    st.integers(0, 255),
    st.integers(0, 255),
    st.integers(0, 255),
    st.binary(max_size=80),
)
near = st.builds(
    Tlsa,
    st.integers(0, 4),
    st.integers(0, 2),
    st.integers(0, 3),
    st.one_of(
        st.binary(min_size=31, max_size=33),
        st.binary(min_size=63, max_size=65),
        st.sampled_from([GOOD.tlsa(3, 0, 0).data, GOOD.tlsa(3, 1, 0).data]),
    ),
)


@given(st.lists(st.one_of(records, near), max_size=8))
def test_usable_records_are_some_of_those_given_in_their_order(given_records: list[Tlsa]) -> None:
    usable = find_usable(given_records)

    rest = iter(given_records)
    assert all(record in rest for record in usable)
    assert find_usable(usable) == usable
    for record in usable:
        assert record.usage in (2, 3)
        assert record.selector in (0, 1)
        assert len(record.data) == {1: 32, 2: 64}.get(record.matching, len(record.data))


random_digests = st.one_of(
    st.builds(Tlsa, st.sampled_from((2, 3)), st.integers(0, 1), st.just(1), st.binary(min_size=32, max_size=32)),
    st.builds(Tlsa, st.sampled_from((2, 3)), st.integers(0, 1), st.just(2), st.binary(min_size=64, max_size=64)),
)  # fmt: skip


@given(st.lists(st.one_of(records, random_digests), max_size=8))
def test_records_of_others_verify_nobody(given_records: list[Tlsa]) -> None:
    expected = "validation-failure" if find_usable(given_records) else "tlsa-invalid"

    assert hold(FULL, *given_records) == expected


@given(st.lists(random_digests, max_size=8), st.integers(0, 8), st.sampled_from(COMBINATIONS))
def test_one_that_matches_is_enough(
    others: list[Tlsa], place: int, combination: tuple[int, int, int]
) -> None:
    usage, selector, matching = combination
    whose = ROOT.certificate if usage == 2 else GOOD.certificate
    # Stronger digests of the same kind would take the place of this one (RFC 7671 §9).
    others = [one for one in others if one[:2] != (usage, selector) or one.matching == matching]
    others.insert(place, make_tlsa(whose, usage, selector, matching))

    expected = {2: ("dane-ta", "dane-ee"), 3: ("dane-ee",)}[usage]
    assert hold(FULL, *others) in expected


# -- every combination


def cases() -> list[tuple[str, Issued, int, str]]:
    """What is shown, which record's owner it has, usage, verdict."""
    return [
        ("good", FULL, 3, "dane-ee"),
        ("good", FULL, 2, "dane-ta"),
        ("wrong name", WRONG.showing(MIDDLE.certificate, ROOT.certificate), 3, "dane-ee"),
        ("wrong name", WRONG.showing(MIDDLE.certificate, ROOT.certificate), 2, "certificate-host-mismatch"),
        ("expired", EXPIRED.showing(MIDDLE.certificate, ROOT.certificate), 3, "dane-ee"),
        ("expired", EXPIRED.showing(MIDDLE.certificate, ROOT.certificate), 2, "certificate-expired"),
        ("common name only", MIDDLE.issue(common_name=NAME).showing(MIDDLE.certificate, ROOT.certificate), 2, "certificate-host-mismatch"),
        ("wildcard", MIDDLE.issue("*.test").showing(MIDDLE.certificate, ROOT.certificate), 2, "dane-ta"),
        ("nothing but itself", GOOD.showing(), 3, "dane-ee"),
        ("intermediate not shown", GOOD.showing(ROOT.certificate), 2, "certificate-not-trusted"),
        ("other's, our root shown", OTHER.issue(NAME).showing(ROOT.certificate), 2, "certificate-not-trusted"),
        ("no authority", ROOT.make_intermediate(ca=False).issue(NAME), 2, "certificate-not-trusted"),
        ("must not sign", ROOT.make_intermediate(may_sign=False).issue(NAME), 2, "certificate-not-trusted"),
        ("intermediate expired", ROOT.make_intermediate(not_after=-1).issue(NAME), 2, "certificate-not-trusted"),
        ("name not permitted", ROOT.make_intermediate(permitted=["x"]).issue(NAME), 2, "certificate-not-trusted"),
    ]  # fmt: skip


@pytest.mark.parametrize(("selector", "matching"), PAIRS)
@pytest.mark.parametrize(
    ("issued", "usage", "verdict"),
    [case[1:] for case in cases()],
    ids=[f"{case[0]}, usage {case[2]}" for case in cases()],
)
def test_verdicts(issued: Issued, usage: int, verdict: str, selector: int, matching: int) -> None:
    """The record is that of the certificate itself (3) or of the root, which is shown (2)."""
    if usage == 2 and ROOT.certificate not in issued.chain:
        issued = issued.showing(*issued.chain[1:], ROOT.certificate)
    whose = issued.certificate if usage == 3 else ROOT.certificate

    assert hold(issued, make_tlsa(whose, usage, selector, matching)) == verdict


@each_combination
def test_a_record_of_another_matches_nothing(usage: int, selector: int, matching: int) -> None:
    record = make_tlsa(OTHER.certificate, usage, selector, matching)

    assert hold(FULL, record) in ("validation-failure", "certificate-not-trusted")
    # A whole certificate (2 0 0) is an anchor even when it was not shown; all others match nothing.
    if (usage, selector, matching) != (2, 0, 0):
        assert hold(FULL, record) == "validation-failure"


@each_combination
def test_the_intermediate_can_be_the_authority(usage: int, selector: int, matching: int) -> None:
    if usage == 2:
        assert hold(GOOD, MIDDLE.tlsa(usage, selector, matching)) == "dane-ta"
    else:
        # Usage 3 is about the host's own certificate and no other.
        assert hold(GOOD, MIDDLE.tlsa(usage, selector, matching)) == "validation-failure"


def test_one_of_the_names_is_enough() -> None:
    assert hold(FULL, ROOT.tlsa(), names=("example.test", NAME)) == "dane-ta"
    assert hold(FULL, ROOT.tlsa(), names=("example.test",)) == "certificate-host-mismatch"
    assert hold(FULL, GOOD.tlsa(), names=()) == "dane-ee"


def test_nothing_shown_is_nothing_verified() -> None:
    for record in (GOOD.tlsa(), ROOT.tlsa(2, 0, 0)):
        assert hold(Issued(GOOD.certificate, GOOD.key, ()), record) == "validation-failure"


# -- rollover, and digests of several kinds


@pytest.mark.parametrize("issued", [GOOD, NEXT], ids=["old", "new"])
def test_during_a_rollover_both_hold(issued: Issued) -> None:
    assert hold(issued, GOOD.tlsa(), NEXT.tlsa()) == "dane-ee"
    assert hold(issued, NEXT.tlsa(), GOOD.tlsa()) == "dane-ee"


def test_after_a_rollover_the_old_one_does_not() -> None:
    assert hold(GOOD, NEXT.tlsa()) == "validation-failure"


def test_host_or_authority_is_enough() -> None:
    assert hold(FULL, NEXT.tlsa(), ROOT.tlsa()) == "dane-ta"
    assert hold(EXPIRED, EXPIRED.tlsa(), ROOT.tlsa(2, 0, 0)) == "dane-ee"


def test_of_digests_the_strongest_counts() -> None:
    weak, strong = GOOD.tlsa(3, 1, 1), NEXT.tlsa(3, 1, 2)

    assert hold(GOOD, weak, strong) == "validation-failure"
    assert hold(NEXT, weak, strong) == "dane-ee"


def test_the_strongest_is_found_for_each_usage_and_selector() -> None:
    assert hold(GOOD, GOOD.tlsa(3, 1, 1), NEXT.tlsa(3, 0, 2)) == "dane-ee"
    assert hold(GOOD, GOOD.tlsa(3, 1, 1), OTHER.tlsa(2, 1, 2)) == "dane-ee"


def test_what_stands_in_full_always_counts() -> None:
    assert hold(GOOD, GOOD.tlsa(3, 1, 0), NEXT.tlsa(3, 1, 2)) == "dane-ee"
    assert hold(GOOD, GOOD.tlsa(3, 1, 1), NEXT.tlsa(3, 1, 0)) == "dane-ee"


def test_a_malformed_digest_takes_nobodys_place() -> None:
    assert hold(GOOD, GOOD.tlsa(3, 1, 1), Tlsa(3, 1, 2, b"x" * 63)) == "dane-ee"
    assert hold(GOOD, GOOD.tlsa(3, 1, 1), Tlsa(3, 1, 3, b"x" * 128)) == "dane-ee"


# -- authorities that were not shown


@pytest.mark.parametrize("matching", [1, 2])
@pytest.mark.parametrize("selector", [0, 1])
def test_a_digest_of_an_authority_that_is_not_shown_matches_nothing(
    selector: int, matching: int
) -> None:
    assert hold(GOOD, ROOT.tlsa(2, selector, matching)) == "validation-failure"


def test_a_whole_certificate_need_not_be_shown() -> None:
    assert hold(GOOD, ROOT.tlsa(2, 0, 0)) == "dane-ta"
    assert hold(GOOD.showing(), MIDDLE.tlsa(2, 0, 0)) == "dane-ta"
    assert hold(GOOD.showing(), ROOT.tlsa(2, 0, 0)) == "certificate-not-trusted"
    assert hold(WRONG, ROOT.tlsa(2, 0, 0)) == "certificate-host-mismatch"


def test_an_authority_that_has_expired_is_none() -> None:
    old = Authority(not_after=-1)

    assert hold(old.issue(NAME), old.tlsa(2, 0, 0)) == "certificate-not-trusted"


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["ec", "rsa", "ed25519"],
)
def test_a_bare_key_vouches_for_what_it_has_signed(key: Key) -> None:
    """The certificate that the key has signed is the top of the path."""
    root = Authority(key=key)
    middle = root.make_intermediate()

    assert hold(root.issue(NAME), make_key_record(key)) == "dane-ta"
    assert hold(middle.issue(NAME), make_key_record(key)) == "dane-ta"
    assert hold(middle.issue("other.test"), make_key_record(key)) == "certificate-host-mismatch"
    assert hold(middle.issue(NAME, not_after=-1), make_key_record(key)) == "certificate-expired"
    assert hold(middle.issue(NAME).showing(), make_key_record(key)) == "validation-failure"


def test_a_bare_key_does_not_vouch_for_others() -> None:
    for key in (OTHER.key, rsa.generate_private_key(65537, 2048)):
        assert hold(GOOD, make_key_record(key)) == "validation-failure"
    # What it has signed stands beside the path, and not at its top.
    beside = GOOD.showing(OTHER.issue("x.test").certificate, OTHER.make_intermediate().certificate)
    assert hold(beside, make_key_record(OTHER.key)) == "certificate-not-trusted"


def test_keys_behind_the_fourth_are_not_tried() -> None:
    others = [make_key_record(Authority().key) for _ in range(4)]

    assert hold(GOOD, *others[:3], make_key_record(ROOT.key)) == "dane-ta"
    assert hold(GOOD, *others, make_key_record(ROOT.key)) == "validation-failure"
    # Of those that are shown any number can be named.
    digests = [one._replace(matching=1, data=bytes(32)) for one in others]
    assert hold(FULL, *others, *digests, ROOT.tlsa(2, 1, 1)) == "dane-ta"


def test_what_a_bare_key_has_signed_must_be_an_authority_itself() -> None:
    no_authority = ROOT.make_intermediate(ca=False)

    assert hold(no_authority.issue(NAME), make_key_record(ROOT.key)) == "certificate-not-trusted"


# -- the host's own certificate as its authority


@pytest.mark.parametrize(("selector", "matching"), PAIRS)
def test_the_host_can_be_its_own_authority(selector: int, matching: int) -> None:
    for own in (make_self_signed(NAME), make_self_signed(NAME, ca=True), GOOD):
        assert hold(own, own.tlsa(2, selector, matching)) == "dane-ta"


@pytest.mark.parametrize("matching", [0, 1, 2])
def test_then_its_name_and_dates_count(matching: int) -> None:
    wrong, old = make_self_signed("other.test"), make_self_signed(NAME, not_after=-1)

    assert hold(wrong, wrong.tlsa(2, 1, matching)) == "certificate-host-mismatch"
    assert hold(old, old.tlsa(2, 1, matching)) == "certificate-expired"


def test_but_it_is_no_authority_for_another() -> None:
    host = ROOT.issue("evil.test")
    mock = Authority(key=host.key)
    mock.name = host.certificate.subject

    issued = mock.issue(NAME).showing(host.certificate)

    assert hold(issued, host.tlsa(2, 0, 1)) == "certificate-not-trusted"


# -- hostile zones and hosts


def test_a_key_of_an_unknown_kind_can_be_pinned() -> None:
    """Usage 3 compares octets; it need not understand the key."""
    known = to_der(GOOD.certificate)
    # id-ecPublicKey becomes an algorithm that nobody has.
    odd = known.replace(bytes.fromhex("2a8648ce3d0201"), bytes.fromhex("2a8648ce3d0209"), 1)
    certificate = x509.load_der_x509_certificate(odd)
    with pytest.raises(Exception):  # noqa: B017, PT011  # the library does not read it
        certificate.public_key()

    spki = GOOD.tlsa(3, 1, 0).data.replace(
        bytes.fromhex("2a8648ce3d0201"), bytes.fromhex("2a8648ce3d0209")
    )
    record = Tlsa(3, 1, 1, hashlib.sha256(spki).digest())
    assert verify((certificate,), [record], (NAME,), NOW) == "dane-ee"


def test_a_zone_full_of_records_and_a_maze_of_certificates_do_not_take_long() -> None:
    one, two = Authority("One"), Authority("Two")
    maze = [
        sign(above, below.name, below.key, -1, 1, make_authority_extensions())
        for _ in range(10)
        for above, below in ((one, two), (two, one))
    ]
    issued = one.issue(NAME).showing(*maze)
    keys = [make_key_record(ec.generate_private_key(ec.SECP256R1())) for _ in range(300)]
    digests = [Tlsa(2, 0, 2, bytes([n % 256]) * 64) for n in range(300)]

    began = time.process_time()
    assert hold(issued, OTHER.tlsa(2, 0, 0), *keys, *digests) == "certificate-not-trusted"
    assert time.process_time() - began < 0.5


@given(
    st.integers(min_value=0, max_value=2),
    st.integers(min_value=0, max_value=10_000),
    st.binary(min_size=1, max_size=4),
    st.sampled_from(
        [ROOT.tlsa(2, 0, 0), ROOT.tlsa(2, 1, 0), ROOT.tlsa(2, 0, 1), GOOD.tlsa(3, 0, 1)]
    ),
)
def test_a_spoilt_certificate_does_no_harm(
    which: int, place: int, octets: bytes, record: Tlsa
) -> None:
    chain = [to_der(one) for one in FULL.chain]
    spoilt = bytearray(chain[which])
    spoilt[place % len(spoilt) : place % len(spoilt) + len(octets)] = octets
    if bytes(spoilt) == chain[which]:
        return
    chain[which] = bytes(spoilt)
    try:
        read = tuple(map(x509.load_der_x509_certificate, chain))
    except Exception:
        return

    try:
        verified = verify(read, [record], (NAME,), NOW)
    except TlsUntrusted:
        return
    # The root was not needed, or nothing but the host's certificate was.
    assert which == 2 or (verified == "dane-ee" and which == 1)


def test_the_text_says_which_record_would_match() -> None:
    with pytest.raises(TlsUntrusted) as caught:
        verify(GOOD.chain, [NEXT.tlsa(), OTHER.tlsa()], (NAME,), NOW)

    assert str(caught.value) == (
        f"none of 2 TLSA records matches; that of the key shown would be "
        f"3 1 1 {GOOD.tlsa(3, 1, 1).data.hex()}"
    )


def test_alternative_names_that_cannot_be_read_are_none() -> None:
    nonsense = x509.UnrecognizedExtension(make_alternatives(["x"]).oid, b"\x30\x03abc")
    issued = ROOT.issue(NAME, extensions=[nonsense])

    assert hold(issued, issued.tlsa()) == "dane-ee"
    assert hold(issued, ROOT.tlsa(2, 0, 0)) == "certificate-host-mismatch"
