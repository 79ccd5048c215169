import ssl
from pathlib import Path

import pytest
import trustme

from relay.errors import CertificateRefused, StartError
from relay.net.tls import make_client_context, make_server_context


@pytest.fixture
def paths(tmp_path: Path) -> tuple[str, str]:
    certificate = trustme.CA().issue_cert("gw.test")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    key.write_bytes(certificate.private_key_pem.bytes())
    return str(chain), str(key)


def test_a_server_asks_for_no_certificate_and_takes_tls_1_2(paths: tuple[str, str]) -> None:
    context = make_server_context(*paths)

    assert context.verify_mode is ssl.CERT_NONE
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_certificate_that_is_none_says_what_was_expected(
    paths: tuple[str, str], tmp_path: Path
) -> None:
    other_key = tmp_path / "other.pem"
    other_key.write_bytes(trustme.CA().issue_cert("x.test").private_key_pem.bytes())
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("hello")

    for chain, key, said in (
        (paths[0], str(other_key), "the key does not belong to the certificate"),
        (str(nothing), paths[1], "expected a certificate chain and its key"),
        ("/nonexistent", paths[1], "cannot be read: No such file or directory"),
    ):
        with pytest.raises(CertificateRefused, match=said) as caught:
            make_server_context(chain, key)
        assert f"({chain}, {key})" in str(caught.value)


def test_opportunistic_tls_takes_any_certificate() -> None:
    context = make_client_context(verify=False)

    assert not context.check_hostname
    assert context.verify_mode is ssl.CERT_NONE
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_verification_checks_chain_and_name() -> None:
    context = make_client_context(verify=True)

    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert not context.hostname_checks_common_name
    assert make_client_context(verify=True) is context


def test_an_authority_file_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"delivery\.ca_file: cannot use .*/missing"):
        make_client_context(verify=True, ca_file=str(tmp_path / "missing"))
