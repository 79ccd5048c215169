"""Signatures, as somebody else's verifier (dkimpy) reads them."""

import base64
import re
from pathlib import Path

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay.dkim import FIELDS, Key, Signer, load_signer, relax_body, relax_field
from relay.errors import StartError

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ED25519 = Ed25519PrivateKey.generate()
KEYS: dict[str, Key] = {"rsa": RSA, "ed25519": ED25519}
each_key = pytest.mark.parametrize("kind", KEYS)

MESSAGE = (
    b"From: tls-reports@gate.example\r\n"
    b"To: reports@example.net\r\n"
    b"Subject: Report Domain: example.net\r\n"
    b"\tSubmitter: gate.example  Report-ID:\r\n"
    b" <a.b@gate.example>\r\n"
    b"Date: Tue, 24 Nov 2026 00:20:00 +0000\r\n"
    b"Message-ID: <1@gate.example>\r\n"
    b"MIME-Version: 1.0\r\n"
    b'Content-Type: multipart/report; report-type="tlsrpt"; boundary="b"\r\n'
    b"TLS-Report-Domain: example.net\r\n"
    b"TLS-Report-Submitter: gate.example\r\n"
    b"X-Other: not signed\r\n"
    b"\r\n"
    b"--b \t\r\nwords  and\twords\r\n\r\n--b--\r\n\r\n\r\n"
)


def make_record(key: Key) -> bytes:
    public = key.public_key()
    if isinstance(key, Ed25519PrivateKey):
        raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return b"v=DKIM1; k=ed25519; s=tlsrpt; p=" + base64.b64encode(raw)
    der = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return b"v=DKIM1; k=rsa; s=tlsrpt; p=" + base64.b64encode(der)


def verify(message: bytes, key: Key) -> bool:
    """Ask dkimpy, which asks us for the record."""

    def find_txt(name: bytes, timeout: int = 5) -> bytes:
        assert name == b"tls._domainkey.gate.example."
        return make_record(key)

    return bool(dkim.verify(message, dnsfunc=find_txt, tlsrpt=True))


def sign(kind: str, message: bytes = MESSAGE) -> bytes:
    return Signer("gate.example", "tls", KEYS[kind]).sign(message) + message


@each_key
def test_others_verify_it(kind: str) -> None:
    assert verify(sign(kind), KEYS[kind])


@each_key
def test_no_other_key_will_do(kind: str) -> None:
    other: Key = (
        Ed25519PrivateKey.generate()
        if kind == "ed25519"
        else rsa.generate_private_key(public_exponent=65537, key_size=2048)
    )
    assert not verify(sign(kind), other)


@each_key
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"To: reports@", b"To: report@"),
        (b"From: tls", b"From: tlz"),
        (b"Domain: example.net\r\n\tSub", b"Domain: example.org\r\n\tSub"),
        (b"TLS-Report-Domain: example.net", b"TLS-Report-Domain: example.org"),
        (b"TLS-Report-Submitter: gate", b"TLS-Report-Submitter: gat"),
        (b"TLS-Report-Submitter: gate.example\r\n", b""),
        (b"00:20:00", b"00:20:01"),
        (b'boundary="b"', b'boundary="c"'),
        (b"words  and", b"words or"),
        (b"--b--\r\n", b"--b--\r\nmore\r\n"),
        (b"t=", b"t=1"),
        (b"X-Other:", b"From: ceo@gate.example\r\nX-Other:"),
        (b"X-Other:", b"Subject: another\r\nX-Other:"),
        (b"X-Other:", b"Reply-To: eve@evil.test\r\nX-Other:"),
    ],
)
def test_any_change_breaks_it(kind: str, old: bytes, new: bytes) -> None:
    signed = sign(kind)
    assert signed.count(old) >= 1

    assert not verify(signed.replace(old, new, 1), KEYS[kind])


@each_key
def test_what_a_relay_may_do_does_not_break_it(kind: str) -> None:
    signed = sign(kind)
    signed = b"Received: from gate.example by mx.test; today\r\n" + signed
    signed = signed.replace(b"Subject: Report Domain:", b"SUBJECT:  Report\r\n Domain:")
    signed = signed.replace(b"not signed", b"whatever").replace(b"words  and", b"words and")
    signed = signed.removesuffix(b"\r\n\r\n")

    assert verify(signed, KEYS[kind])


@each_key
@pytest.mark.parametrize("body", [b"", b"\r\n", b"\r\n\r\n", b"x", b" \r\n", b"a\r\n\r\nb"])
def test_any_body_will_do(kind: str, body: bytes) -> None:
    head = MESSAGE.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"

    assert verify(sign(kind, head + body), KEYS[kind])


def test_the_whole_body_is_signed_and_lines_are_short() -> None:
    field = Signer("gate.example", "tls", RSA).sign(MESSAGE, now=1_795_478_400.9)

    assert field.startswith(b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;")
    assert b" t=1795478400;" in field
    assert not re.search(rb"\bl=", field)
    assert max(map(len, field.split(b"\r\n"))) <= 78
    tag = re.search(rb"\th=([^;]+);", field)
    assert tag is not None
    names = re.sub(rb"\s", b"", tag[1]).decode().split(":")
    assert {name: names.count(name) for name in FIELDS} == {
        name: 1 + MESSAGE.count(b"\r\n%b:" % name.encode()) + (name == "From") for name in FIELDS
    }


def test_of_several_fields_the_last_comes_first() -> None:
    message = b"To: a@x.test\r\nTo: b@x.test\r\nFrom: c@gate.example\r\n\r\nx\r\n"
    signed = sign("rsa", message)

    assert verify(signed, RSA)
    swapped = signed.replace(b"To: a@", b"To: ?@").replace(b"To: b@", b"To: a@")
    assert not verify(swapped.replace(b"To: ?@", b"To: b@"), RSA)


def test_canonical_forms() -> None:
    # The examples of RFC 6376 §3.4.5.
    assert relax_field(b"A: X") == b"a:X"
    assert relax_field(b"B : Y\t\r\n\tZ  ") == b"b:Y Z"
    assert relax_body(b" C \r\nD \t E\r\n\r\n\r\n") == b" C\r\nD E\r\n"


def write(path: Path, key: object, password: bytes = b"") -> str:
    form = serialization.PrivateFormat.PKCS8
    lock = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, lock))  # type: ignore[attr-defined]
    return str(path)


@each_key
def test_keys_are_read(kind: str, tmp_path: Path) -> None:
    file = write(tmp_path / "key.pem", KEYS[kind])
    signer = load_signer("gate.example", "tls", file)

    assert verify(signer.sign(MESSAGE) + MESSAGE, KEYS[kind])


@pytest.mark.parametrize("case", ["nothing", "words", "locked", "curve", "public"])
def test_a_bad_file_says_what_to_do(case: str, tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    if case == "words":
        file.write_text("not a key")
    elif case == "locked":
        write(file, RSA, b"secret")
    elif case == "curve":
        write(file, ec.generate_private_key(ec.SECP256R1()))
    elif case == "public":
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        file.write_bytes(RSA.public_key().public_bytes(serialization.Encoding.PEM, form))
    with pytest.raises(StartError) as caught:
        load_signer("gate.example", "tls", str(file))

    text = str(caught.value)
    assert text.startswith(f"tls_reports.dkim_key_file: cannot use {file}: ")
    assert ("let this user read it" if case == "nothing" else "without a password") in text
