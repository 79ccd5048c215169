"""``outgate tls``: a host's TLS, and a domain's; against our own ingress, too."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.kit.authority import Authority, Issued
from tests.kit.dnssec import Zone, find_obstacle, open_dnssec
from tests.kit.gateway import Gateway
from tests.kit.https import Answer, open_https
from tests.kit.nameserver import open_nameserver
from tests.kit.peer import ScriptedHost, open_host
from workers.cli.main import main
from workers.cli.tls import _read_domain, _read_host

ROOT = Authority("Root of the tests")
CA = ROOT.make_intermediate("Intermediate of the tests")
GOOD = CA.issue("gate.test", "mx1.y.test", not_after=62)
CONFIG = """
[ingress]
hostname = "gate.example.net"
listen = ["127.0.0.9:25"]
[[source]]
name = "a"
address = "127.0.0.11"
ehlo = "a.out.test"
[delivery]
ca_file = "{ca}"
port = {port}
prohibited_hosts = []
[dns]
nameservers = ["{dns}"]
timeout = "2s"
[tls]
mta_sts_port = {web}
"""
POLICY = b"version: STSv1\nmode: enforce\nmx: mx1.y.test\nmax_age: 604800\n"


class Place:
    """A configuration, and the command."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._file = directory / "outgate.toml"
        self._ca = ROOT.write(directory)
        self._capsys = capsys

    def write(self, *, port: int = 25, dns: object = "127.0.0.1:9", web: int = 443) -> None:
        self._file.write_text(CONFIG.format(ca=self._ca, port=port, dns=dns, web=web))

    async def call(self, *words: str) -> tuple[int, str]:
        """Run it in a thread; return exit code and output."""
        argv = ["tls", "-c", str(self._file), *words]
        status = await trio.to_thread.run_sync(main, argv)
        return status, self._capsys.readouterr().out

    async def ask(self, *words: str) -> tuple[int, Any]:
        status, out = await self.call(*words, "--json")
        return status, json.loads(out)


@pytest.fixture
def place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Place:
    made = Place(tmp_path, capsys)
    made.write()
    return made


@asynccontextmanager
async def open_domain(
    place: Place, issued: Issued | None = GOOD, **records: Any
) -> AsyncIterator[ScriptedHost]:
    """y.test, whose zone says what ``records`` say, with a policy if it announces one."""
    tls = issued.make_context() if issued else None
    web_tls = ROOT.issue("mta-sts.y.test").make_context()
    zone: dict[str, Any] = {
        "y.test": {"MX": ["10 mx1.y.test.", "20 mx2.y.test."]},
        "mx1.y.test": {"A": ["127.0.0.1"]},
        "mx2.y.test": {"A": ["127.0.0.1"]},
        "mta-sts.y.test": {"A": ["127.0.0.1"]},
        **records,
    }
    async with (
        open_host(tls=tls, offers=("REQUIRETLS",)) as host,
        open_nameserver(zone, authentic=True) as dns,
        open_https(web_tls) as web,
    ):
        if issued:
            zone[f"_{host.port}._tcp.mx1.y.test"] = {"TLSA": [f"3 1 1 {issued.tlsa().data.hex()}"]}
        web.answers["mta-sts.y.test"] = Answer(POLICY)
        place.write(port=host.port, dns=dns.endpoint, web=web.port)
        yield host


STS = {"_mta-sts.y.test": {"TXT": ['"v=STSv1; id=7;"']}}
REPORTS = {"_smtp._tls.y.test": {"TXT": ['"v=TLSRPTv1; rua=mailto:t@y.test"']}}


# -- a host


def describe(usage: int) -> dict[str, object]:
    """What is to be shown of the host's certificate (3), of its issuer's (2)."""
    issued = GOOD if usage == 3 else CA
    made = issued.certificate
    return {
        "subject": made.subject.rfc4514_string(),
        "issuer": made.issuer.rfc4514_string(),
        "names": ["gate.test", "mx1.y.test"] if usage == 3 else [],
        "starts": f"{made.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}",
        "expires": f"{made.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
        "days": 61 if usage == 3 else 499,
        "key": "EC 256 bits (secp256r1)",
        "fingerprint": issued.tlsa(usage, 0, 1).data.hex(),
        "tlsa": f"{usage} 1 1 {issued.tlsa(usage, 1, 1).data.hex()}",
    }


async def test_a_host_as_json(place: Place, tmp_path: Path) -> None:
    async with open_host(tls=GOOD.make_context()) as host:
        status, said = await place.ask(f"127.0.0.1:{host.port}", "--name", "gate.test")

    protocol = said["protocol"]
    assert protocol.startswith("TLSv1.3 ")
    assert status == 0
    assert said == {
        "ok": True,
        "host": "127.0.0.1",
        "port": host.port,
        "name": "gate.test",
        "address": "127.0.0.1",
        "protocol": protocol,
        "requiretls": False,
        "checks": [
            {"name": name, "state": "ok", "text": text, "advice": ""}
            for name, text in (
                ("connection", f"127.0.0.1 port {host.port}"),
                ("starttls", "offered"),
                ("tls", protocol),
                (
                    "chain",
                    "issued by 'Intermediate of the tests'; leads to an authority we trust",
                ),
                ("name", "gate.test is in the certificate"),
                (
                    "validity",
                    f"until {GOOD.certificate.not_valid_after_utc:%Y-%m-%d} (61 days left)",
                ),
            )
        ],
        "certificates": [
            describe(3),
            describe(2),
        ],
        "trusted": f"1 authority from {tmp_path / 'ca.pem'}",
        "tlsa_name": f"_{host.port}._tcp.gate.test.",
    }


async def test_a_host_for_people(place: Place) -> None:
    async with open_host(tls=GOOD.make_context()) as host:
        status, good = await place.call(f"127.0.0.1:{host.port}", "--name", "gate.test")
        assert status == 0
    soon = CA.issue("other.test", not_after=9.5).showing()
    async with open_host(tls=soon.make_context()) as host:
        status, bad = await place.call(f"127.0.0.1:{host.port}", "--name", "gate.test")
        assert status == 1
    async with open_host() as host:
        status, bare = await place.call(f"127.0.0.1:{host.port}")
        assert status == 1

    assert "would pass" in good
    assert f"  3 1 1 {GOOD.tlsa().data.hex()}\n" in good
    assert f"\n  SHA-256    {GOOD.tlsa(3, 0, 1).data.hex()} " in good
    assert "61 days left" in good
    assert "\nFAILED   chain " in bad
    assert "\nwarning  validity " in bad
    assert "9 days left" in bad
    assert "fullchain.pem" in bad
    assert "\nwould FAIL: chain, name\n" in bad
    assert "\nFAILED   STARTTLS    not offered" in bare
    assert "\n-        chain " in bare
    assert "TLSA records" not in bare


async def test_nobody_is_there(place: Place) -> None:
    status, said = await place.ask("127.0.0.1:1")

    assert (status, said["ok"], said["certificates"]) == (1, False, [])
    assert said["checks"][0]["text"].startswith("cannot connect to 127.0.0.1 port 1: ")


@pytest.mark.slow
def test_our_own_ingress(tmp_path: Path) -> None:
    chain, key = GOOD.write(tmp_path)
    ca = ROOT.write(tmp_path)
    ingress = f'tls = {{ certificate = "{chain}", key = "{key}", required = true }}'
    with Gateway({}, ingress=ingress, delivery=f'ca_file = "{ca}"') as gateway:
        done = subprocess.run(
            [sys.executable, "-m", "workers.cli", "tls", "-c", str(gateway.config),
             f"localhost:{gateway.port}", "--name", "gate.test", "--json"],
            cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False, timeout=40,
            env=os.environ,
        )  # fmt: skip

    said = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert [check["state"] for check in said["checks"]] == ["ok"] * 6
    assert said["requiretls"]


# -- a domain


async def test_a_domain_as_json(place: Place) -> None:
    async with open_domain(place, **STS, **REPORTS) as host:
        status, said = await place.ask("--domain", "Y.test")

    one, two = said["hosts"]
    session = one.pop("session")
    protocol = session.pop("protocol")
    assert (status, protocol[:8]) == (0, "TLSv1.3 ")
    assert session == {
        "address": "127.0.0.1",
        "port": host.port,
        "state": "verified",
        "verified": "dane-ee",
        "requiretls": True,
        "certificates": [
            describe(3),
            describe(2),
        ],
        "failing": "",
        "text": "",
    }
    assert one == {
        "name": "mx1.y.test",
        "preference": 10,
        "port": host.port,
        "addresses": ["127.0.0.1"],
        "addresses_secure": True,
        "tlsa": [{"text": f"3 1 1 {GOOD.tlsa().data.hex()}", "usable": True, "why": ""}],
        "tlsa_text": "",
        "policy": "dane",
        "level": "verify",
        "demand": "DANE: TLS, and a certificate that its TLSA records name",
        "left_out": "",
        "failing": "",
    }
    assert two.pop("left_out").startswith("mx2.y.test is not in the MTA-STS policy of y.test")
    assert two == {
        "name": "mx2.y.test",
        "preference": 20,
        "port": host.port,
        "addresses": ["127.0.0.1"],
        "addresses_secure": True,
        "tlsa": [],
        "tlsa_text": "",
        "policy": "",
        "level": "",
        "demand": "",
        "failing": "validation-failure",
        "session": None,
    }
    del said["hosts"]
    assert said.pop("nameservers")[0].startswith("127.0.0.1:")
    assert said.pop("site").startswith("mx1.y.test+1-")
    assert said == {
        "domain": "y.test",
        "verdict": "goes",
        "text": "goes to mx1.y.test over TLS 1.3, verified by DANE-EE",
        "origin": "mx",
        "mx": [{"preference": 10, "name": "mx1.y.test"}, {"preference": 20, "name": "mx2.y.test"}],
        "secure": True,
        "trusted": True,
        "level": "opportunistic",
        "sts": {
            "announced": True,
            "mode": "enforce",
            "id": "7",
            "mx": ["mx1.y.test"],
            "max_age": 604800,
            "trouble": "",
        },
        "reports": ["mailto:t@y.test"],
    }


async def test_a_domain_for_people(place: Place) -> None:
    async with open_domain(place, **STS, **REPORTS):
        status, good = await place.call("--domain", "y.test")
        assert status == 0
        status, dry = await place.call("--domain", "y.test", "--no-connect")
        assert status == 0

    assert "  MTA-STS      enforce, mx mx1.y.test, max_age 7 d " in good
    assert "  reports      mailto:t@y.test " in good
    assert f"  TLSA         3 1 1 {GOOD.tlsa().data.hex()[:24]}... " in good
    assert "  verified     yes, by DANE-EE " in good
    assert "  left out     mx2.y.test is not in the MTA-STS policy" in good
    assert "  REQUIRETLS   offered" in good
    assert good.endswith("\ngoes to mx1.y.test over TLS 1.3, verified by DANE-EE\n")
    assert "session" not in dry
    assert "would go to mx1.y.test, if that is as demanded: DANE" in dry


async def test_a_domain_that_is_not_so_good(place: Place) -> None:
    implicit = {"y.test": {"A": ["127.0.0.1"]}}
    async with open_domain(place, None, **implicit):
        status, bare = await place.call("--domain", "y.test")
        assert status == 0
        status, nowhere = await place.call("--domain", "nix.test")
        assert status == 1

    assert "  MX           none: the domain itself is the host" in bare
    assert "  MTA-STS      none announced" in bare
    assert "  verified     no: the host does not offer STARTTLS" in bare
    assert "goes to y.test in clear, as nobody demands TLS" in bare
    assert nowhere.endswith("comes back to its sender: nix.test: no such name in the DNS (5.1.2)\n")


async def test_a_host_that_fails(place: Place) -> None:
    async with open_domain(place, None, **STS):
        status, said = await place.call("--domain", "y.test")

    assert status == 1
    assert "  failed       the host does not offer STARTTLS" in said
    assert "  session      127.0.0.1: none" in said
    assert "\nwaits: no host can be used: mx1.y.test: " in said


async def test_a_domain_that_is_written_in_other_letters(place: Place) -> None:
    name = "xn--mnchen-3ya.test"
    async with open_domain(place, **{name: {"MX": ["0 ."]}}):
        status, said = await place.ask("--domain", "postmaster@München.test")

    assert (status, said["domain"], said["verdict"]) == (1, name, "bounces")
    assert said["text"].endswith(f"{name} does not accept mail (null MX) (556 5.1.10)")


@pytest.mark.skipif(find_obstacle() is not None, reason=str(find_obstacle()))
async def test_a_zone_that_is_really_signed(place: Place) -> None:
    async with open_host(tls=GOOD.make_context()) as host:
        record = f"3 1 1 {GOOD.tlsa().data.hex()}"
        zones = {
            "y.test": Zone(
                {
                    "y.test": {"MX": ["10 mx1.y.test."]},
                    "mx1.y.test": {"A": ["127.0.0.1"]},
                    f"_{host.port}._tcp.mx1.y.test": {"TLSA": [record]},
                }
            ),
            "bad.test": Zone(
                {
                    "bad.test": {"MX": ["10 mx.bad.test."]},
                    "mx.bad.test": {"A": ["127.0.0.1"]},
                    f"_{host.port}._tcp.mx.bad.test": {"TLSA": [record]},
                },
                spoilt={f"_{host.port}._tcp.mx.bad.test"},
            ),
            "plain.test": Zone(
                {
                    "plain.test": {"MX": ["10 mx1.y.test."]},
                    "mx.plain.test": {"A": ["127.0.0.1"]},
                    f"_{host.port}._tcp.mx.plain.test": {"TLSA": [record]},
                },
                signed=False,
            ),
            "mixed.test": Zone({"mixed.test": {"MX": ["10 mx.plain.test."]}}),
        }
        async with open_dnssec(zones) as servers:
            place.write(port=host.port, dns=servers.endpoint)
            good = await place.ask("--domain", "y.test")
            bad = await place.ask("--domain", "bad.test")
            plain = await place.ask("--domain", "plain.test")
            mixed = await place.ask("--domain", "mixed.test")

    assert [status for status, _ in (good, bad, plain, mixed)] == [0, 1, 0, 0]
    assert good[1]["text"] == "goes to mx1.y.test over TLS 1.3, verified by DANE-EE"
    assert bad[1]["hosts"][0]["failing"] == "dnssec-invalid"
    assert "its TLSA records cannot be had" in bad[1]["text"]
    assert (plain[1]["secure"], plain[1]["hosts"][0]["policy"]) == (False, "opportunistic")
    assert plain[1]["hosts"][0]["tlsa_text"].startswith("the MX records are not validated")
    assert (mixed[1]["secure"], mixed[1]["hosts"][0]["addresses_secure"]) == (True, False)
    assert mixed[1]["hosts"][0]["tlsa_text"] == "the host's addresses are not validated"


# -- usage


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["a.test", "--domain", "b.test"],
        ["a.test:99999"],
        ["a.test:0"],
        ["a.test:smtp"],
        ["a b"],
        ["[::1"],
        ["--domain", "a..test"],
        ["--domain", ""],
        ["127.0.0.1", "--name", "-"],
    ],
)
def test_what_cannot_be_meant(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["tls", *words])

    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("mx.a.test", "mx.a.test", 25),
        ("MX.a.test.:587", "mx.a.test", 587),
        ("192.0.2.1", "192.0.2.1", 25),
        ("192.0.2.1:2525", "192.0.2.1", 2525),
        ("2001:db8::1", "2001:db8::1", 25),
        ("[2001:db8::1]", "2001:db8::1", 25),
        ("[2001:db8::1]:2525", "2001:db8::1", 2525),
        ("mx.münchen.test:26", "mx.xn--mnchen-3ya.test", 26),
        ("localhost", "localhost", 25),
    ],
)
def test_hosts_can_be_written_so(text: str, host: str, port: int) -> None:
    place = _read_host(text)

    assert (place.host, place.port) == (host, port)


@pytest.mark.parametrize(
    ("text", "domain"),
    [("A.test.", "a.test"), ("bob@A.test", "a.test"), ("x@[IPv6:::1]", "[ipv6:::1]")],
)
def test_domains_can_be_written_so(text: str, domain: str) -> None:
    assert _read_domain(text) == domain
