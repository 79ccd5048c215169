"""Certificates, judged by OpenSSL over a TLS handshake in memory."""

import ssl
import stat
from pathlib import Path

import pytest

from workers.emulation.authority import Authority


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("test authority")


def shake_hands(directory: Path, authority: Authority, trusted: Authority, name: str) -> None:
    chain, key = authority.issue("mx.good.test", "127.0.0.1").write(directory, "server")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(chain, key)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # What Python 3.13 checks by default.
    client.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cadata=trusted.certificate.decode())
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=name)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue


@pytest.mark.parametrize("name", ["mx.good.test", "127.0.0.1"])
def test_strict_verification_passes(tmp_path: Path, authority: Authority, name: str) -> None:
    shake_hands(tmp_path, authority, authority, name)


def test_another_name_is_not_accepted(tmp_path: Path, authority: Authority) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"[Hh]ostname mismatch"):
        shake_hands(tmp_path, authority, authority, "mx.evil.test")


def test_another_authority_is_not_accepted(tmp_path: Path, authority: Authority) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="verify failed"):
        shake_hands(tmp_path, Authority("test authority"), authority, "mx.good.test")


def test_the_key_is_for_its_owner_only(tmp_path: Path, authority: Authority) -> None:
    _, key = authority.issue("mx.good.test").write(tmp_path, "server")

    assert stat.S_IMODE(key.stat().st_mode) == 0o600
