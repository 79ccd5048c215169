"""The certificate of the ingress: the files, and what is shown."""

from pathlib import Path
from typing import Any

import pytest

from relay.config import Config
from tests.kit.authority import Authority, Issued
from tests.kit.peer import open_host
from tests.workers.doctor.place import levels, make_config
from workers.doctor.certificate import check_certificate

ROOT = Authority("Root of the tests")
OTHER = Authority("Somebody else")
NAME = "gate.example.net"


def configure(base: Path, issued: Issued | None, port: int = 9) -> Config:
    ingress: dict[str, Any] = {"hostname": NAME, "listen": [f"127.0.0.1:{port}"]}
    if issued is not None:
        certificate, key = issued.write(base)
        ingress["tls"] = {"certificate": str(certificate), "key": str(key)}
    return make_config(base, ingress=ingress, delivery={"ca_file": str(ROOT.write(base))})


@pytest.mark.parametrize(
    ("issued", "expected", "text"),
    [
        (ROOT.issue(NAME, not_after=60), ["ok", "ok", "skipped"], "good until"),
        (ROOT.issue("*.example.net", not_after=60), ["ok", "ok", "skipped"], "good until"),
        (ROOT.issue("other.test", not_after=60), ["ok", "warning", "skipped"], "ingress.hostname"),
        (ROOT.issue(NAME, not_after=3), ["warning", "ok", "skipped"], "good until"),
        (ROOT.issue(NAME, not_after=-1), ["error", "ok", "skipped"], "has expired"),
        (None, ["warning"], "STARTTLS is not offered"),
    ],
)
async def test_files(tmp_path: Path, issued: Issued | None, expected: list[str], text: str) -> None:
    found = await check_certificate(configure(tmp_path, issued))

    assert [one.level for one in found] == expected
    assert any(text in one.text for one in found), found


async def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    config = configure(tmp_path, ROOT.issue(NAME))
    (tmp_path / "server.pem").write_text("nothing\n")
    found = await check_certificate(config)

    assert levels(found) == [("certificate", "error"), ("certificate", "skipped")]
    assert "server.pem" in found[0].text


async def test_what_is_shown_is_another(tmp_path: Path) -> None:
    """The files are good; what runs has the certificate of before, by nobody whom we know."""
    shown = OTHER.issue("old.test", not_after=-1)
    async with open_host(tls=shown.make_context()) as host:
        found = await check_certificate(
            configure(tmp_path, ROOT.issue(NAME, not_after=60), host.port)
        )

    assert [one.level for one in found[:2]] == ["ok", "ok"]
    subjects = {one.subject.rpartition(" ")[2]: one.level for one in found[2:]}
    assert subjects == {
        "starttls": "ok",
        "tls": "ok",
        "chain": "warning",
        "name": "warning",
        "validity": "error",
    }


async def test_what_is_shown_is_good(tmp_path: Path) -> None:
    issued = ROOT.issue(NAME, not_after=60)
    async with open_host(tls=issued.make_context()) as host:
        found = await check_certificate(configure(tmp_path, issued, host.port))

    assert {one.level for one in found} == {"ok"}
    assert len(found) == 7
