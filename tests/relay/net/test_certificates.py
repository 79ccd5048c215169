"""Certificates as files: loaded, chosen by name, renewed; with real handshakes."""

import datetime as dt
import os
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
import trio
import trustme
from cryptography import x509

from relay.config import Config, read
from relay.config.schema import IngressTls
from relay.errors import CertificateRefused, StartError
from relay.net.certificates import (
    Certificates,
    Pair,
    find_unready,
    list_pairs,
    load_certificates,
    load_pair,
    read_certificate,
    renew,
)
from relay.net.stream import Stream
from tests.kit.pairs import issue, join_chain, write_pair

NOW = dt.datetime(2026, 6, 1, 12, 0, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
TABLE = (
    ("gw.test", "mail.gw.test"),
    ("*.two.test", "exact.three.test"),
    ("*.three.test", "gw.test", "two.test"),
)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def table(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Three pairs, of the names in TABLE."""
    directory = tmp_path_factory.mktemp("table")
    return Certificates(
        [
            load_pair(write_pair(directory, authority.issue_cert(*names), name=f"{number}-"))
            for number, names in enumerate(TABLE)
        ]
    )


@pytest.fixture
def pair(tmp_path: Path, authority: trustme.CA) -> Pair:
    return write_pair(tmp_path, issue(authority, "gw.test", now=NOW))


async def shake_hands(certificates: Certificates, name: str | None) -> tuple[str, ...]:
    """Ask for a name; return the names in the certificate that comes."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    ours, theirs = map(Stream, socket.socketpair())
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                lambda: theirs.start_tls(certificates.context, server_side=True),
            )
            await ours.start_tls(client, server_hostname=name)
        assert ours.tls is not None
        return read_names(ours.tls)
    finally:
        ours.close()
        theirs.close()


def read_names(tls: ssl.SSLSocket) -> tuple[str, ...]:
    octets = tls.getpeercert(binary_form=True)
    assert octets is not None
    found = x509.load_der_x509_certificate(octets).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    return tuple(found.value.get_values_for_type(x509.DNSName))


# -- which one


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("gw.test", 0),  # of two that have it, the first
        ("mail.gw.test", 0),
        ("MAIL.Gw.Test", 0),
        ("a.two.test", 1),
        ("exact.three.test", 1),  # before the wildcard
        ("other.three.test", 2),
        ("two.test", 2),  # a star stands for a label, not for none
        ("a.b.two.test", 0),  # nor for two
        ("unknown.test", 0),
        ("test", 0),
        ("x" * 63 + ".test", 0),
        ("192.0.2.1", 0),
        (None, 0),
    ],
)
async def test_name_decides(name: str | None, number: int, table: Certificates) -> None:
    assert await shake_hands(table, name) == TABLE[number]


@pytest.mark.parametrize("name", ["", ".", "..", "*", "*.two.test", "gw.test.", "xn--9"])
def test_no_name_is_too_odd_for_an_answer(name: str, table: Certificates) -> None:
    contexts = [loaded.context for loaded in table.loaded]

    assert table.find_context(name) in contexts


async def test_one_pair_serves_every_name(pair: Pair) -> None:
    certificates = Certificates([load_pair(pair)])

    for name in (None, "gw.test", "other.test"):
        assert await shake_hands(certificates, name) == ("gw.test",)


def test_nobody_is_asked_for_a_certificate_and_tls_1_2_is_the_least(table: Certificates) -> None:
    for loaded in table.loaded:
        assert loaded.context.verify_mode is ssl.CERT_NONE
        assert loaded.context.minimum_version is ssl.TLSVersion.TLSv1_2


# -- loading


def test_certificate_says_whose_it_is_and_how_long(pair: Pair) -> None:
    certificate = read_certificate(pair)

    assert certificate.names == ("gw.test",)
    assert (certificate.starts, certificate.expires) == (NOW - 30 * DAY, NOW + 60 * DAY)
    assert certificate.count_days(NOW) == 60
    assert certificate.describe(NOW) == (
        f"the certificate is good until 2026-07-31 (60 days): gw.test ({pair.certificate})"
    )


@pytest.mark.parametrize(
    ("away", "fault", "days", "soon"),
    [
        (-31, "is not valid before 2026-05-02 12:00 UTC", 91, False),
        (0, "", 60, False),
        (46, "", 14, False),
        (46.001, "", 13, True),
        (59.9, "", 0, True),
        (60, "has expired, on 2026-07-31", 0, True),
        (60.1, "has expired, on 2026-07-31", -1, True),
    ],
)
def test_end_of_a_certificate(away: float, fault: str, days: int, soon: bool, pair: Pair) -> None:
    certificate = read_certificate(pair)
    now = NOW + away * DAY

    assert certificate.find_fault(now) == fault
    assert certificate.count_days(now) == days
    assert certificate.ends_soon(now) is soon


def test_certificate_without_names_serves_all_the_same(
    tmp_path: Path, authority: trustme.CA
) -> None:
    pair = write_pair(tmp_path, authority.issue_cert(common_name="gw.test"))

    certificate = load_pair(pair).certificate

    assert certificate.names == ()
    assert ": without a name (" in certificate.describe(NOW)


@pytest.mark.parametrize(
    ("chain", "key", "said"),
    [
        (b"", None, "expected a certificate chain and its key without a password, in PEM"),
        (b"\0\xff" * 100, None, "expected a certificate chain"),
        (None, b"", "expected a certificate chain"),
        (None, b"-----BEGIN PRIVATE KEY-----\nAAAA\n", "expected a certificate chain"),
    ],
)
def test_broken_pair_says_where_and_what_was_expected(
    chain: bytes | None, key: bytes | None, said: str, pair: Pair
) -> None:
    if chain is not None:
        Path(pair.certificate).write_bytes(chain)
    if key is not None:
        Path(pair.key).write_bytes(key)

    with pytest.raises(CertificateRefused) as caught:
        load_pair(pair)

    assert str(caught.value).startswith(f"ingress.tls: {said}")
    assert str(caught.value).endswith(f"({pair.certificate}, {pair.key})")
    assert isinstance(caught.value, StartError)


def test_half_a_certificate_is_none(pair: Pair) -> None:
    whole = Path(pair.certificate).read_bytes()
    for length in range(0, len(whole) - 30, 97):
        Path(pair.certificate).write_bytes(whole[:length])
        with pytest.raises(CertificateRefused):
            load_pair(pair)


def test_pairs_are_those_of_the_configuration(tmp_path: Path, authority: trustme.CA) -> None:
    config = make_config(tmp_path, [issue(authority, f"{n}.test", now=NOW) for n in range(3)])

    assert [pair.place for pair in list_pairs(config.ingress.tls)] == [
        "ingress.tls",
        "ingress.tls.more[0]",
        "ingress.tls.more[1]",
    ]
    certificates = load_certificates(config.ingress.tls)
    assert certificates is not None
    assert [one.certificate.names for one in certificates.loaded] == [
        ("0.test",), ("1.test",), ("2.test",),
    ]  # fmt: skip
    assert load_certificates(IngressTls()) is None


def make_config(base: Path, issued: Sequence[trustme.LeafCert]) -> Config:
    pairs = [write_pair(base, one, name=f"{number}-") for number, one in enumerate(issued)]
    tables = [{"certificate": pair.certificate, "key": pair.key} for pair in pairs]
    tls = {**tables[0], "more": tables[1:]} if tables else {}
    ingress = {"hostname": "gw.test", "tls": tls}
    return read({"ingress": ingress}, base=base, environment={})


# -- renewal


async def test_new_pair_serves_new_handshakes(
    pair: Pair, tmp_path: Path, authority: trustme.CA
) -> None:
    certificates = Certificates([load_pair(pair)])
    assert renew(certificates.loaded[0], NOW) is None

    write_pair(tmp_path, issue(authority, "new.test", now=NOW))
    fresh = renew(certificates.loaded[0], NOW)

    assert fresh is not None
    assert await shake_hands(certificates, None) == ("gw.test",)
    certificates.replace(0, fresh)
    assert await shake_hands(certificates, None) == ("new.test",)
    assert renew(fresh, NOW) is None


async def test_names_of_a_renewed_pair_count_and_the_old_ones_do_not(
    tmp_path: Path, authority: trustme.CA
) -> None:
    pairs = [write_pair(tmp_path, authority.issue_cert(f"{n}.test"), name=f"{n}-") for n in (1, 2)]
    certificates = Certificates([load_pair(one) for one in pairs])

    for number, name in ((1, "three.test"), (0, "four.test")):
        pair = write_pair(tmp_path, authority.issue_cert(name), name=f"{number + 1}-")
        certificates.replace(number, load_pair(pair))

    assert await shake_hands(certificates, "three.test") == ("three.test",)
    assert await shake_hands(certificates, "2.test") == ("four.test",)
    assert await shake_hands(certificates, "four.test") == ("four.test",)


def test_links_are_followed_as_kubernetes_moves_them(tmp_path: Path, authority: trustme.CA) -> None:
    # tls.crt -> ..data/tls.crt, ..data -> ..1: an update moves ..data, and nothing else.
    for number in (1, 2):
        (tmp_path / f"..{number}").mkdir()
        write_pair(tmp_path / f"..{number}", issue(authority, f"{number}.test", now=NOW))
    (tmp_path / "..data").symlink_to("..1")
    for name in ("chain.pem", "key.pem"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    loaded = load_pair(Pair("p", str(tmp_path / "chain.pem"), str(tmp_path / "key.pem")))
    assert loaded.certificate.names == ("1.test",)

    (tmp_path / "..data_tmp").symlink_to("..2")
    os.replace(tmp_path / "..data_tmp", tmp_path / "..data")

    fresh = renew(loaded, NOW)
    assert fresh is not None
    assert fresh.certificate.names == ("2.test",)


@pytest.mark.parametrize(
    ("days", "began", "said"),
    [
        (-1, 30, "the certificate has expired, on 2026-05-31"),
        (60, -1, "the certificate is not valid before 2026-06-02 12:00 UTC"),
    ],
)
def test_pair_that_does_not_hold_now_takes_no_place(
    days: float, began: float, said: str, pair: Pair, tmp_path: Path, authority: trustme.CA
) -> None:
    loaded = load_pair(pair)
    write_pair(tmp_path, issue(authority, "gw.test", now=NOW, days=days, began=began))

    with pytest.raises(CertificateRefused, match=said):
        renew(loaded, NOW)


def test_half_of_a_new_pair_takes_no_place(
    pair: Pair, tmp_path: Path, authority: trustme.CA
) -> None:
    loaded = load_pair(pair)
    new = issue(authority, "gw.test", now=NOW)
    old = Path(pair.certificate).read_bytes()

    Path(pair.certificate).write_bytes(join_chain(new))
    with pytest.raises(CertificateRefused, match="the key does not belong to the certificate"):
        renew(loaded, NOW)

    Path(pair.key).unlink()
    with pytest.raises(CertificateRefused, match="cannot be read: No such file"):
        renew(loaded, NOW)

    write_pair(tmp_path, new)
    assert renew(loaded, NOW) is not None
    assert Path(pair.certificate).read_bytes() != old


# -- readiness


def test_ready_is_who_has_no_certificate_or_good_ones(
    tmp_path: Path, authority: trustme.CA
) -> None:
    assert find_unready(make_config(tmp_path, []), NOW) == []
    config = make_config(tmp_path, [issue(authority, "gw.test", now=NOW, days=1)])
    assert find_unready(config, NOW) == []


def test_not_ready_is_who_has_an_expired_one(tmp_path: Path, authority: trustme.CA) -> None:
    issued = [issue(authority, f"{n}.test", now=NOW, days=n) for n in (10, 5, 20)]
    config = make_config(tmp_path, issued)
    certificates = load_certificates(config.ingress.tls)
    assert certificates is not None
    expected = (
        "ingress.tls.more[0]: the certificate has expired, on 2026-06-06: 5.test "
        f"({tmp_path}/1-chain.pem): renew it"
    )

    assert find_unready(config, NOW + 6 * DAY) == [expected]
    assert certificates.find_unready(NOW + 6 * DAY) == [expected]
    assert len(find_unready(config, NOW + 21 * DAY)) == 3
    assert len(find_unready(config, NOW - 31 * DAY)) == 3  # not valid yet


def test_broken_file_says_so_while_what_is_loaded_is_ready(
    tmp_path: Path, authority: trustme.CA
) -> None:
    config = make_config(tmp_path, [issue(authority, "gw.test", now=NOW)])
    certificates = load_certificates(config.ingress.tls)
    assert certificates is not None
    Path(config.ingress.tls.certificate).write_text("hello")

    (why,) = find_unready(config, NOW)
    assert why.startswith("ingress.tls: expected a certificate chain in PEM")
    assert certificates.find_unready(NOW) == []


def test_readiness_needs_no_key(tmp_path: Path, authority: trustme.CA) -> None:
    config = make_config(tmp_path, [issue(authority, "gw.test", now=NOW)])
    tls = msgspec.structs.replace(config.ingress.tls, key="/nonexistent")
    ingress = msgspec.structs.replace(config.ingress, tls=tls)

    assert find_unready(msgspec.structs.replace(config, ingress=ingress), NOW) == []
