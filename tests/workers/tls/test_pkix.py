"""Chains and names against authorities: each kind of certificate, and where authorities are from."""

import datetime as dt
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import StartError
from tests.kit.authority import (
    Authority,
    Issued,
    make_alternatives,
    make_authority_extensions,
    make_host_extensions,
    make_self_signed,
    sign,
    to_pem,
)
from workers.tls.chain import MOST, to_der
from workers.tls.guard import TlsUntrusted
from workers.tls.pkix import Authorities

NAME = "mx.test"
NOW = dt.datetime.now(dt.UTC)
ROOT = Authority("The Root")
MIDDLE = ROOT.make_intermediate("Middle")
TRUSTED = Authorities([ROOT.certificate], "a test")
MISMATCH = "certificate-host-mismatch"
EXPIRED = "certificate-expired"
UNTRUSTED = "certificate-not-trusted"


def verify(issued: Issued, *names: str, trusted: Authorities = TRUSTED) -> str:
    """Return "" when all is well, else what reports say."""
    try:
        trusted.verify(issued.chain, names or (NAME,), NOW)
    except TlsUntrusted as error:
        return error.failing
    return ""


def explain(issued: Issued, *names: str) -> str:
    with pytest.raises(TlsUntrusted) as caught:
        TRUSTED.verify(issued.chain, names or (NAME,), NOW)
    return str(caught.value)


def issue_with(*extensions: x509.ExtensionType) -> Issued:
    return MIDDLE.issue(NAME, extensions=[make_alternatives([NAME]), *extensions])


def sign_with(host: Issued) -> Issued:
    """Return a certificate that the owner of another has signed with his key."""
    mock = Authority(issuer=None, key=host.key)
    mock.name = host.certificate.subject
    return mock.issue(NAME)


GOOD = {
    "by an intermediate": MIDDLE.issue(NAME),
    "by the root": ROOT.issue(NAME),
    "one of many names": MIDDLE.issue("a.test", "b.test", NAME),
    "wildcard": MIDDLE.issue("*.test"),
    "in capitals": MIDDLE.issue("MX.Test"),
    "four deep": ROOT.make_intermediate().make_intermediate().make_intermediate().issue(NAME),
    "shown with the root": MIDDLE.issue(NAME).showing(MIDDLE.certificate, ROOT.certificate),
    "out of order": MIDDLE.issue(NAME).showing(ROOT.certificate, MIDDLE.certificate),
    "with others in between": MIDDLE.issue(NAME).showing(
        Authority().certificate, MIDDLE.certificate
    ),
    "names permitted": ROOT.make_intermediate(permitted=["test"]).issue(NAME),
    "without key usage": issue_with(),
    "for any purpose": issue_with(
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])
    ),
    "subject in the alternative names only": MIDDLE.issue(
        NAME, common_name="Some Company", extensions=make_host_extensions([NAME])
    ),
}

BAD = {
    "expired": (MIDDLE.issue(NAME, not_after=-0.01), EXPIRED),
    "expired, other name": (MIDDLE.issue("other.test", not_after=-1), EXPIRED),
    "not yet valid": (MIDDLE.issue(NAME, not_before=1), UNTRUSTED),
    "other name": (MIDDLE.issue("other.test"), MISMATCH),
    "common name only": (MIDDLE.issue(common_name=NAME), MISMATCH),
    "wildcard for the label below": (MIDDLE.issue("*.mx.test"), MISMATCH),
    "wildcard for the label above": (MIDDLE.issue("*"), MISMATCH),
    "wildcard inside of a label": (MIDDLE.issue("m*.test"), MISMATCH),
    "an address": (MIDDLE.issue("192.0.2.1"), MISMATCH),
    "intermediate not shown": (MIDDLE.issue(NAME).showing(), UNTRUSTED),
    "other authority": (Authority().issue(NAME), UNTRUSTED),
    "other authority, same name": (Authority("The Root").issue(NAME), UNTRUSTED),
    "other authority, shown": (
        (lambda other: other.issue(NAME).showing(other.certificate))(Authority()),
        UNTRUSTED,
    ),
    "signed by itself": (make_self_signed(NAME), UNTRUSTED),
    "signed by itself, an authority": (make_self_signed(NAME, ca=True), UNTRUSTED),
    "signed by itself, other name": (make_self_signed("localhost"), MISMATCH),
    "issuer is no authority": (ROOT.make_intermediate(ca=False).issue(NAME), UNTRUSTED),
    "issuer is a host": (
        (lambda host: sign_with(host).showing(host.certificate))(ROOT.issue("evil.test")),
        UNTRUSTED,
    ),
    "issuer must not sign": (ROOT.make_intermediate(may_sign=False).issue(NAME), UNTRUSTED),
    "issuer has expired": (ROOT.make_intermediate(not_after=-1).issue(NAME), UNTRUSTED),
    "path too long": (
        ROOT.make_intermediate(path_length=0).make_intermediate().issue(NAME),
        UNTRUSTED,
    ),
    "names not permitted": (ROOT.make_intermediate(permitted=["example"]).issue(NAME), UNTRUSTED),
    "names excluded": (ROOT.make_intermediate(excluded=["test"]).issue(NAME), UNTRUSTED),
    "for clients": (
        issue_with(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])),
        UNTRUSTED,
    ),
    "critical extension that nobody knows": (
        issue_with(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")),
        UNTRUSTED,
    ),
    "an issuer's key that can be broken": (
        Authority(issuer=ROOT, key=rsa.generate_private_key(65537, 1024)).issue(NAME),
        UNTRUSTED,
    ),
    "nothing shown": (Issued(ROOT.certificate, ROOT.key, ()), UNTRUSTED),
}


@pytest.mark.parametrize("kind", GOOD)
def test_good(kind: str) -> None:
    assert verify(GOOD[kind]) == ""


@pytest.mark.parametrize("kind", BAD)
def test_bad(kind: str) -> None:
    issued, failing = BAD[kind]

    assert verify(issued) == failing
    assert explain(issued).isprintable()
    assert len(explain(issued)) < 400


def test_one_of_the_names_is_enough() -> None:
    assert verify(MIDDLE.issue("example.test"), NAME, "example.test") == ""


@pytest.mark.parametrize(
    ("address", "holds"), [("192.0.2.1", True), ("2001:db8::1", True), ("192.0.2.2", False)]
)
def test_a_host_known_by_its_address_must_show_that(address: str, *, holds: bool) -> None:
    issued = ROOT.issue("mx.test", "192.0.2.1", "2001:db8::1")
    assert verify(issued, address) == ("" if holds else MISMATCH)


@pytest.mark.parametrize("name", ["", "mx.test.", "bücher.test", "a..b", "*.test", "x" * 300, "."])
def test_a_name_that_is_none_is_in_no_certificate(name: str) -> None:
    assert verify(GOOD["wildcard"], name) in (MISMATCH, UNTRUSTED)


def test_without_a_name_nothing_holds() -> None:
    with pytest.raises(TlsUntrusted):
        TRUSTED.verify(GOOD["wildcard"].chain, (), NOW)


def test_an_authority_that_has_expired_is_none() -> None:
    old = Authority(not_after=-1)

    assert verify(old.issue(NAME), trusted=Authorities([old.certificate], "")) == UNTRUSTED


def test_an_intermediate_can_be_what_we_trust() -> None:
    trusted = Authorities([MIDDLE.certificate], "")

    assert verify(GOOD["by an intermediate"], trusted=trusted) == ""
    assert verify(GOOD["by the root"], trusted=trusted) == UNTRUSTED


def test_the_clock_counts_wherever_it_is() -> None:
    far = dt.timezone(dt.timedelta(hours=12))
    soon = MIDDLE.issue(NAME, not_after=1 / 24)

    TRUSTED.verify(soon.chain, (NAME,), NOW.astimezone(far))
    with pytest.raises(TlsUntrusted):
        TRUSTED.verify(soon.chain, (NAME,), NOW.astimezone(far) + dt.timedelta(hours=2))


# -- what is said of it


def test_the_text_says_when_and_who() -> None:
    text = explain(MIDDLE.issue(NAME, not_after=-1))

    assert text.startswith("certificate expired on 20")
    assert "issued by 'Middle'" in text


def test_the_text_says_which_names() -> None:
    names = [f"{letter}.test" for letter in "abcdefg"]

    assert explain(MIDDLE.issue(*names)) == (
        "certificate is for a.test, b.test, c.test, d.test, e.test and 2 more, not for mx.test "
        "(issued by 'Middle')"
    )
    assert "is for no host name, not for" in explain(MIDDLE.issue(common_name=NAME))


def test_the_text_says_what_is_wrong_with_the_path() -> None:
    assert explain(make_self_signed(NAME)) == (
        "certificate of 'mx.test' is signed by itself, and so does not lead to an authority "
        "that we trust"
    )
    assert explain(MIDDLE.issue(NAME).showing()) == (
        "certificate was issued by 'Middle', and does not lead to an authority that we trust"
    )
    stranger = Authority("Stranger")
    assert explain(stranger.issue(NAME).showing(stranger.certificate)) == (
        "certificate was issued by 'Stranger', and does not lead to an authority that we trust"
    )
    assert "path length" in explain(BAD["path too long"][0])
    assert "not valid at validation time" in explain(BAD["issuer has expired"][0])
    assert "key usage" in explain(BAD["issuer must not sign"][0])


def test_the_text_holds_no_control_characters() -> None:
    hostile = "mx\r\n250 ok\x1b[2J.test"

    text = explain(make_self_signed(hostile, "a" * 200 + ".test"))

    assert text.isprintable()
    assert len(text) < 400


# -- hostile chains


def test_a_maze_of_authorities_does_not_take_long() -> None:
    """Certificates of one subject, signed by each other: paths without number."""
    one, two = Authority("One"), Authority("Two")
    maze = [
        sign(above, below.name, below.key, -1, 1, make_authority_extensions())
        for _ in range(MOST)
        for above, below in ((one, two), (two, one), (one, one))
    ]

    began = time.process_time()
    assert verify(one.issue(NAME).showing(*maze)) == UNTRUSTED
    assert time.process_time() - began < 0.5


def test_a_valid_certificate_is_found_behind_an_expired_one_of_the_same_subject() -> None:
    renewed = Authority("Middle", issuer=ROOT, key=MIDDLE.key)
    expired = Authority("Middle", issuer=ROOT, key=MIDDLE.key, not_after=-1)

    for others in ((renewed, expired), (expired, renewed)):
        issued = MIDDLE.issue(NAME).showing(*[one.certificate for one in others])
        assert verify(issued) == ""


def test_certificates_behind_the_tenth_are_not_looked_at() -> None:
    others = [Authority().certificate for _ in range(MOST)]

    assert verify(MIDDLE.issue(NAME).showing(*others, MIDDLE.certificate)) == UNTRUSTED


def test_many_names_do_not_take_long() -> None:
    issued = MIDDLE.issue(*[f"{number}.test" for number in range(3000)])

    began = time.process_time()
    assert verify(issued) == MISMATCH
    assert time.process_time() - began < 0.2


@given(
    st.integers(min_value=0, max_value=1),
    st.integers(min_value=0, max_value=10_000),
    st.binary(min_size=1, max_size=4),
)
def test_a_spoilt_certificate_is_refused_and_nothing_worse(
    which: int, place: int, octets: bytes
) -> None:
    chain = [to_der(one) for one in GOOD["by an intermediate"].chain]
    spoilt = bytearray(chain[which])
    spoilt[place % len(spoilt) : place % len(spoilt) + len(octets)] = octets
    if bytes(spoilt) == chain[which]:
        return
    chain[which] = bytes(spoilt)
    try:
        read = tuple(map(x509.load_der_x509_certificate, chain))
    except Exception:
        return

    with pytest.raises(TlsUntrusted):
        TRUSTED.verify(read, (NAME,), NOW)


# -- where authorities come from


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine whose store is empty so far: ``ca.pem`` and the directory ``certs``."""
    (tmp_path / "certs").mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "certs"))
    Authorities.load.cache_clear()
    yield tmp_path
    Authorities.load.cache_clear()


def test_a_configured_file_is_all_that_counts(place: Path) -> None:
    Authority().write(place)
    path = ROOT.write(place, "ours.pem")

    trusted = Authorities.load(str(path))

    assert trusted.origin == f"1 authority from {path}"
    assert verify(GOOD["by the root"], trusted=trusted) == ""
    assert Authorities.load(str(path)) is trusted


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nonsense",
        to_pem(ROOT.certificate) + to_pem(ROOT.certificate).replace(b"MII", b"MIX"),
        to_pem(ROOT.certificate).replace(b"END CERT", b"END OF CERT"),
    ],
    ids=["empty", "nonsense", "one is bad", "cut off"],
)
def test_a_configured_file_that_is_bad_says_what_to_do(place: Path, content: bytes) -> None:
    path = place / "ours.pem"
    path.write_bytes(content)

    with pytest.raises(StartError, match=r"delivery\.ca_file: .*ours\.pem.* expected .* in PEM"):
        Authorities.load(str(path))


def test_a_configured_file_that_is_missing_says_so(place: Path) -> None:
    with pytest.raises(StartError, match="No such file"):
        Authorities.load(str(place / "none.pem"))


def test_a_bad_certificate_in_the_system_is_skipped(place: Path) -> None:
    good, bad = to_pem(ROOT.certificate), to_pem(MIDDLE.certificate).replace(b"MII", b"MIX")
    (place / "ca.pem").write_bytes(b"# comment\n" + bad + good + b"trailing")

    trusted = Authorities.load()

    assert trusted.origin.startswith("1 authority from ")
    assert verify(GOOD["by the root"], trusted=trusted) == ""


def test_of_a_directory_the_hashed_files_count(place: Path) -> None:
    ROOT.write(place / "certs", "0123abcd.0")
    ROOT.write(place / "certs", "0123abcd.1")  # the same once more
    Authority().write(place / "certs", "other.pem")

    trusted = Authorities.load()

    assert trusted.origin == f"1 authority from {place / 'certs'}"
    assert verify(GOOD["by the root"], trusted=trusted) == ""


def test_file_and_directory_count_together(place: Path) -> None:
    ROOT.write(place)
    Authority().write(place / "certs", "0123abcd.0")

    assert (
        Authorities.load().origin == f"2 authorities from {place / 'ca.pem'} and {place / 'certs'}"
    )


@pytest.mark.parametrize("content", [None, b"", b"nonsense"])
def test_where_the_system_has_none_there_is_certifi(place: Path, content: bytes | None) -> None:
    if content is not None:
        (place / "ca.pem").write_bytes(content)

    origin = Authorities.load().origin

    count = Path(certifi.where()).read_bytes().count(b"BEGIN CERTIFICATE")
    assert origin == f"{count} authorities from certifi, as the system has none"


def test_a_file_that_may_not_be_read_is_as_none(place: Path) -> None:
    (place / "ca.pem").mkdir()  # a file without permission would not stop root
    ROOT.write(place / "certs", "0123abcd.0")

    assert Authorities.load().origin.startswith("1 authority from ")


def test_this_machine_has_authorities() -> None:
    assert int(Authorities.load().origin.split()[0]) > 50


def test_openssl_can_trust_the_same(place: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    TRUSTED.load_into(context)

    assert context.get_ca_certs(binary_form=True) == [to_der(ROOT.certificate)]
