"""Signatures of ours, as somebody else's verifier (dkimpy) and our own read them."""

import re
from pathlib import Path

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay.dkim.sign import FROZEN, Key, Signer, load_signer
from relay.errors import StartError
from tests.relay.dkim.made import ED25519, KEYS, RSA, KnownKeys, check, make_record, make_short_key

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


def verify(message: bytes, key: Key) -> bool:
    """Ask dkimpy, which asks us for the record."""

    def find_txt(name: bytes, timeout: int = 5) -> bytes:
        assert name == b"tls._domainkey.gate.example."
        return make_record(key, "tlsrpt")

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
    names = read_names(field)
    assert {name: names.count(name) for name in FROZEN} == {
        name: 1 + MESSAGE.count(b"\r\n%b:" % name.encode()) + (name == "From") for name in FROZEN
    }
    assert names.count("tls-report-domain") == names.count("tls-report-submitter") == 1
    assert "X-Other" not in names


def read_names(field: bytes) -> list[str]:
    tag = re.search(rb"\th=([^;]+);", field)
    assert tag is not None
    return re.sub(rb"\s", b"", tag[1]).decode().split(":")


TENANTS = (
    b"Received: from mail-a.google.com by gate.example; today\r\n"
    b"DKIM-Signature: v=1; d=acme.example; b=broken\r\n"
    b"From: Alice <alice@acme.example>\r\n"
    b"Sender: desk@acme.example\r\n"
    b"Subject: News\r\n"
    b"MIME-Version: 1.0\r\n"
    b"Content-Type: text/plain\r\n"
    b"Content-Language: de\r\n"
    b"Content-;d=evil.test: x\r\n"
    b"List-Unsubscribe: <https://acme.example/out>\r\n"
    b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
    b"Resent-To: carol@example.org\r\n"
    b"\r\n"
    b"Good morning\r\n"
)


@each_key
async def test_mail_of_tenants(kind: str) -> None:
    field = Signer("acme.example", "s", KEYS[kind]).sign(TENANTS)

    names = read_names(field)
    assert {"sender", "content-language", "list-unsubscribe", "resent-to"} <= set(names)
    assert names.count("content-language") == names.count("sender") == 1
    lowered = [name.lower() for name in names]
    assert lowered.count("content-type") == lowered.count("from") == 2
    assert not {"received", "dkim-signature", "tls-report-domain"} & set(names)
    verdict = await check(field + TENANTS, KnownKeys(make_record(KEYS[kind])))
    assert (verdict.domain, verdict.selector) == ("acme.example", "s")


async def test_what_lists_add_does_not_break_it() -> None:
    keys = KnownKeys(make_record(ED25519))
    signed = Signer("acme.example", "s", ED25519).sign(TENANTS) + TENANTS

    for added in (b"List-Id: <a.example>\r\n", b"Sender: list@a.example\r\n"):
        assert (await check(added + signed, keys)).domain
    for added in (b"Subject: Other\r\n", b"Cc: x@y.example\r\n", b"In-Reply-To: <x@y>\r\n"):
        assert not (await check(added + signed, keys)).domain


async def test_a_message_without_head_or_body() -> None:
    keys = KnownKeys(make_record(ED25519))
    signer = Signer("acme.example", "s", ED25519)

    message = b"From: a@acme.example\r\n\r\n"
    assert (await check(signer.sign(message) + message, keys)).domain
    message = b"From: a@acme.example\r\n"
    assert (await check(signer.sign(message) + message, keys)).domain
    assert signer.sign(b"\r\nwords\r\n")


def test_of_several_fields_the_last_comes_first() -> None:
    message = b"To: a@x.test\r\nTo: b@x.test\r\nFrom: c@gate.example\r\n\r\nx\r\n"
    signed = sign("rsa", message)

    assert verify(signed, RSA)
    swapped = signed.replace(b"To: a@", b"To: ?@").replace(b"To: b@", b"To: a@")
    assert not verify(swapped.replace(b"To: ?@", b"To: b@"), RSA)


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


def test_a_bad_file_is_named_as_the_configuration_does(tmp_path: Path) -> None:
    with pytest.raises(
        StartError, match=r"^tenant\[0\]\.dkim\[1\]\.key_file: cannot use /none: No"
    ):
        load_signer("a.example", "s", "/none", said="tenant[0].dkim[1].key_file")


def test_a_short_key_is_refused(tmp_path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    load_signer("a.example", "s", write(tmp_path / "enough.pem", key))
    short = write(tmp_path / "short.pem", make_short_key(1016))

    with pytest.raises(StartError, match="1016 bits are too few, make one of 2048"):
        load_signer("a.example", "s", short)
