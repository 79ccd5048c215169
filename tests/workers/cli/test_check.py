import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from tests.kit.pairs import issue, write_pair
from workers.cli.main import main

_TLS = """
[ingress]
hostname = "gateway.example"
[ingress.tls]
certificate = "chain.pem"
key = "key.pem"
"""


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def write(tmp_path: Path, authority: trustme.CA) -> Callable[..., Path]:
    """Write a configuration with certificate and key; ``chain`` and ``key`` replace the right ones.

    ``more``: lines behind it.
    """

    def write(*, chain: bytes | None = None, key: bytes | None = None, more: str = "") -> Path:
        issued = authority.issue_cert("gateway.example")
        good = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
        (tmp_path / "chain.pem").write_bytes(good if chain is None else chain)
        (tmp_path / "key.pem").write_bytes(issued.private_key_pem.bytes() if key is None else key)
        path = tmp_path / "o.toml"
        path.write_text(_TLS + more)
        return path

    return write


def test_good_file_is_ok_with_notices(
    write: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write()

    status = main(["check", "-c", str(path)])

    lines = capsys.readouterr().out.splitlines()
    assert status == 0
    assert lines[0] == f"{path}: ok"
    assert any(line.startswith(f"{path}: note: no [[tenant]]") for line in lines[1:])
    assert any("the certificate is good until " in line for line in lines[1:])


def test_good_file_as_json(write: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["check", "-c", str(write()), "--json"])

    said = json.loads(capsys.readouterr().out)
    assert (status, said["ok"], said["problems"]) == (0, True, [])
    assert len(said["notices"]) == 2


def test_problem_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "o.toml"
    path.write_text("x = 1")

    status = main(["check", "--json", "-c", str(path)])

    said = json.loads(capsys.readouterr().out)
    assert status == 2
    assert said == {"ok": False, "problems": [f"{path}: x: unknown key"], "notices": []}


def test_key_of_another_certificate_is_a_problem(
    write: Callable[..., Path], authority: trustme.CA, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(key=authority.issue_cert("other.example").private_key_pem.bytes())

    assert main(["check", "-c", str(path)]) == 2
    assert (
        f"{path}: ingress.tls: the key does not belong to the certificate"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("part", ["chain", "key"])
def test_file_that_is_not_pem_is_a_problem(
    part: str, write: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(**{part: b"hello"})

    assert main(["check", "-c", str(path)]) == 2
    assert (
        "expected a certificate chain and its key without a password, in PEM"
        in capsys.readouterr().err
    )


def test_key_with_a_password_is_a_problem_and_no_question(
    write: Callable[..., Path], authority: trustme.CA, capsys: pytest.CaptureFixture[str]
) -> None:
    key = serialization.load_pem_private_key(
        authority.issue_cert("gateway.example").private_key_pem.bytes(), None
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )

    assert main(["check", "-c", str(write(key=secret))]) == 2
    assert "key without a password" in capsys.readouterr().err


def test_expired_certificate_is_a_notice(
    write: Callable[..., Path], authority: trustme.CA, capsys: pytest.CaptureFixture[str]
) -> None:
    old = authority.issue_cert(
        "gateway.example",
        not_before=dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
        not_after=dt.datetime(2021, 1, 1, tzinfo=dt.UTC),
    )
    chain = b"".join(pem.bytes() for pem in old.cert_chain_pems)
    path = write(chain=chain, key=old.private_key_pem.bytes())

    assert main(["check", "-c", str(path)]) == 0
    said = capsys.readouterr().out
    assert "the certificate has expired, on 2021-01-01: gateway.example (" in said
    assert "senders that verify it will not come; renew it" in said


def test_every_pair_is_looked_at(
    write: Callable[..., Path],
    authority: trustme.CA,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = dt.datetime.now(dt.UTC)
    issued = issue(authority, "mx.example", "*.mx.example", now=now, days=3.5)
    pair = write_pair(tmp_path, issued, name="more-")
    more = '[[ingress.tls.more]]\ncertificate = "more-chain.pem"\nkey = "{}"\n'

    assert main(["check", "-c", str(write(more=more.format("more-key.pem")))]) == 0
    assert f"(3 days): mx.example, *.mx.example ({pair.certificate}): renew it" in (
        capsys.readouterr().out
    )

    assert main(["check", "-c", str(write(more=more.format("key.pem")))]) == 2
    assert (
        "ingress.tls.more[0]: the key does not belong to the certificate" in capsys.readouterr().err
    )


def test_defaults_without_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OUTGATE_CONFIG", raising=False)

    assert main(["check"]) == 0
    assert capsys.readouterr().out.startswith("no file, all defaults: ok\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[delivery]\nca_file = "empty.pem"\n', "delivery.ca_file: no certificate in"),
        (
            '[tls_reports]\ndkim_selector = "s"\ndkim_key_file = "empty.pem"\n',
            "tls_reports.dkim_key_file: cannot use",
        ),
    ],
)
def test_files_of_workers_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    (tmp_path / "empty.pem").touch()
    (tmp_path / "outgate.toml").write_text(text)

    assert main(["check", "-c", str(tmp_path / "outgate.toml")]) == 2
    assert said in capsys.readouterr().err


def test_what_is_probably_not_meant_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = '[[site]]\nname = "gogle"\n[tls_reports]\nsend = true\n'
    (tmp_path / "outgate.toml").write_text(text)

    assert main(["check", "-c", str(tmp_path / "outgate.toml")]) == 0
    said = capsys.readouterr().out
    assert "site[0] (gogle) has neither mx nor domains" in said
    assert "tls_reports.dkim_key_file is not set" in said


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            (
                "[[tenant]]\nname='a'\ndomains=['a.example']\n[[tenant.dkim]]\ndomain='a.example'\n"
                "selector='s'\nkey_file='broken.pem'"
            ),
            "tenant[0].dkim[0].key_file: cannot use ",
        ),
        ("[archive]\ndirectory='kept'\nkey_file='broken.pem'", "archive.key_file"),
    ],
)
def test_keys_that_the_ingress_will_read_are_read(
    write: Callable[..., Path], capsys: pytest.CaptureFixture[str], more: str, said: str
) -> None:
    path = write(more=more)
    (path.parent / "broken.pem").write_text("no key")

    assert main(["check", "-c", str(path)]) == 2
    assert said in capsys.readouterr().err
