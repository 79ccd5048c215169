"""What would become of mail to a domain: every reason for it, with real hosts, DNS and HTTPS."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from trio.testing import MockClock

from relay.config import Config, read
from tests.kit.authority import Authority, Issued
from tests.kit.https import Answer, HttpsServer, open_https
from tests.kit.nameserver import SERVFAIL, Nameserver, open_nameserver
from tests.kit.peer import ScriptedHost, open_host
from workers.tls.forecast import forecast
from workers.tls.outlook import Forecast, HostView

ROOT = Authority("Root of the tests")
GOOD = ROOT.issue("mx1.y.test", "mx2.y.test")
OTHER = Authority("Somebody else").issue("mx1.y.test")
WEB = ROOT.issue("mta-sts.y.test")
ENFORCE = b"version: STSv1\nmode: enforce\nmx: mx1.y.test\nmax_age: 604800\n"


class World:
    """y.test with mx1, a real host, and mx2, which shares its address."""

    def __init__(self, host: ScriptedHost, dns: Nameserver, web: HttpsServer, ca: Path) -> None:
        self.host = host
        self.web = web
        self.zone: dict[str, Any] = {
            "y.test": {"MX": ["10 mx1.y.test."]},
            "mx1.y.test": {"A": ["127.0.0.1"]},
            "mx2.y.test": {"A": ["127.0.0.1"]},
        }
        self.dns = dns
        dns.zone = self.zone
        self._ca = ca

    def publish(self, policy: bytes = ENFORCE) -> None:
        self.zone["_mta-sts.y.test"] = {"TXT": ['"v=STSv1; id=7;"']}
        self.zone["mta-sts.y.test"] = {"A": ["127.0.0.1"]}
        self.web.answers["mta-sts.y.test"] = Answer(policy)

    def pin(self, *issued: Issued, usage: int = 3, name: str = "mx1.y.test") -> None:
        records = [one.tlsa(usage, 1, 1) for one in issued]
        self.zone[f"_{self.host.port}._tcp.{name}"] = {
            "TLSA": [f"{r.usage} {r.selector} {r.matching} {r.data.hex()}" for r in records]
        }

    def configure(self, **tables: Any) -> Config:
        delivery = {"ca_file": str(self._ca), "port": self.host.port, "prohibited_hosts": []}
        document: dict[str, Any] = {
            "ingress": {"hostname": "gate.example.net", "listen": ["127.0.0.9:25"]},
            "source": [{"name": "a", "address": "127.0.0.11", "ehlo": "a.out.test"}],
            **tables,
            "delivery": delivery | tables.get("delivery", {}),
            "dns": {"nameservers": [str(self.dns.endpoint)], "timeout": "1s"}
            | tables.get("dns", {}),
            "tls": {"mta_sts_port": self.web.port} | tables.get("tls", {}),
        }
        return read(document, base=Path(), environment={})

    async def ask(self, domain: str = "y.test", *, connect: bool = True, **tables: Any) -> Forecast:
        found = await forecast(self.configure(**tables), domain, connect=connect)
        assert not {command[:4] for command in self.host.commands} & {"MAIL", "RCPT", "DATA"}
        return found


@asynccontextmanager
async def open_world(
    tmp_path: Path, issued: Issued | None = GOOD, script: str = "", *, authentic: bool = True
) -> AsyncIterator[World]:
    tls = issued.make_context() if issued else None
    async with (
        open_host(script, tls=tls, offers=("REQUIRETLS",)) as host,
        open_nameserver({}, authentic=authentic) as dns,
        open_https(WEB.make_context()) as web,
    ):
        yield World(host, dns, web, ROOT.write(tmp_path))


def only(found: Forecast) -> HostView:
    (host,) = found.hosts
    return host


# -- who demands what, and whether it holds


async def test_dane(tmp_path: Path) -> None:
    async with open_world(tmp_path, OTHER) as world:
        world.pin(OTHER)
        world.publish()
        found = await world.ask()

    host = only(found)
    assert found.text == "goes to mx1.y.test over TLS 1.3, verified by DANE-EE"
    assert (found.verdict, found.origin, found.secure, found.trusted) == ("goes", "mx", True, True)
    assert (host.policy, host.level, host.addresses_secure) == ("dane", "verify", True)
    assert [(one.text[:6], one.usable, one.why) for one in host.tlsa] == [("3 1 1 ", True, "")]
    assert host.session is not None
    assert (host.session.verified, host.session.requiretls) == ("dane-ee", True)
    assert host.session.certificates[0].names == ("mx1.y.test",)


async def test_dane_of_a_host_that_is_an_alias(tmp_path: Path) -> None:
    async with open_world(tmp_path, OTHER) as world:
        world.zone["mx1.y.test"] = {"CNAME": ["real.y.test."]}
        world.zone["real.y.test"] = {"A": ["127.0.0.1"]}
        world.pin(OTHER, name="real.y.test")
        found = await world.ask()

    assert found.text.endswith("verified by DANE-EE")
    assert [one.usable for one in only(found).tlsa] == [True]


async def test_dane_that_does_not_hold(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        world.pin(OTHER)
        found = await world.ask()

    host = only(found)
    assert found.verdict == "waits"
    assert found.text.startswith("waits: no host can be used: mx1.y.test: none of 1 TLSA records")
    assert host.session is not None
    assert (host.session.state, host.session.failing) == ("failed", "validation-failure")
    assert host.session.certificates[0].names == ("mx1.y.test", "mx2.y.test")


async def test_dane_below_an_authority_of_the_zone(tmp_path: Path) -> None:
    above = Authority("Somebody else")
    issued = above.issue("mx1.y.test").showing(above.certificate)
    record = above.tlsa()
    async with open_world(tmp_path, issued) as world:
        world.zone[f"_{world.host.port}._tcp.mx1.y.test"] = {
            "TLSA": [f"2 0 1 {record.data.hex()}", "3 0 0 00", "3 7 1 " + "00" * 32]
        }
        found = await world.ask()

    assert found.text.endswith("over TLS 1.3, verified by DANE-TA")
    assert {one.text[:5]: one.why for one in only(found).tlsa} == {
        "2 0 1": "",
        "3 0 0": "its data is malformed",
        "3 7 1": "nobody knows its selector or matching type",
    }


async def test_records_that_nobody_can_use(tmp_path: Path) -> None:
    async with open_world(tmp_path, OTHER) as world:
        world.pin(GOOD, usage=1)
        found = await world.ask()

    host = only(found)
    assert (host.policy, host.level, host.tlsa[0].usable) == ("dane", "require", False)
    assert host.tlsa[0].why == "usage 1 is none for SMTP"
    assert "not verified, which nobody demands: certificate was issued by" in found.text


async def test_records_that_cannot_be_had(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        world.zone["y.test"] = {"MX": ["10 mx1.y.test.", "20 mx2.y.test."]}
        world.zone[f"_{world.host.port}._tcp.mx1.y.test"] = SERVFAIL
        world.pin(GOOD, name="mx2.y.test")
        found = await world.ask()

    two, one = found.hosts
    assert (two.name, two.preference, two.left_out) == ("mx2.y.test", 20, "")
    assert found.text == "goes to mx2.y.test over TLS 1.3, verified by DANE-EE"
    assert (one.name, one.preference, one.failing) == ("mx1.y.test", 10, "dnssec-invalid")
    assert "its TLSA records cannot be had" in one.left_out
    assert one.session is None


@pytest.mark.parametrize(
    ("tables", "text"),
    [
        ({"dns": {"trust_ad": False}}, "name servers are not believed"),
        ({"tls": {"dane": False}}, "switched off"),
        ({"site": [{"name": "s", "domains": ["y.test"], "tls": "none"}]}, "no TLS is wanted"),
    ],
)
async def test_dane_that_does_not_count(tmp_path: Path, tables: dict[str, Any], text: str) -> None:
    async with open_world(tmp_path) as world:
        world.pin(OTHER)
        found = await world.ask(**tables)

    host = only(found)
    assert found.verdict == "goes"
    assert host.policy != "dane"
    assert len(host.tlsa) == 1
    assert text in host.tlsa_text
    assert found.trusted == ("dns" not in tables)


async def test_a_domain_without_dnssec(tmp_path: Path) -> None:
    async with open_world(tmp_path, authentic=False) as world:
        world.pin(OTHER)
        found = await world.ask()

    assert (found.secure, found.trusted) == (False, True)
    assert only(found).tlsa_text.startswith("the MX records are not validated")


async def test_a_policy_in_force(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        world.publish()
        world.zone["y.test"] = {"MX": ["10 mx2.y.test.", "20 mx1.y.test."]}
        found = await world.ask()

    one, two = found.hosts
    assert found.text == "goes to mx1.y.test over TLS 1.3, verified by an authority that we trust"
    assert found.sts is not None
    assert (found.sts.mode, found.sts.id, found.sts.mx) == ("enforce", "7", ("mx1.y.test",))
    assert (found.sts.max_age, found.sts.trouble) == (604800, "")
    assert (one.policy, one.level) == ("sts", "verify")
    assert "mx2.y.test is not in the MTA-STS policy" in two.left_out


async def test_a_policy_that_does_not_hold(tmp_path: Path) -> None:
    async with open_world(tmp_path, OTHER) as world:
        world.publish()
        world.zone["y.test"] = {"MX": ["10 mx2.y.test.", "20 mx1.y.test."]}
        found = await world.ask()

    assert found.text.startswith("waits: no host can be used: mx1.y.test: certificate was issued")


async def test_a_policy_in_testing(tmp_path: Path) -> None:
    async with open_world(tmp_path, OTHER) as world:
        world.publish(ENFORCE.replace(b"enforce", b"testing").replace(b"mx1", b"mx9"))
        found = await world.ask()

    assert found.verdict == "goes"
    assert only(found).demand.endswith("policy is in testing, and does not name this host")


async def test_a_policy_that_cannot_be_had(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        world.publish()
        del world.web.answers["mta-sts.y.test"]
        found = await world.ask()
        world.zone["_mta-sts.y.test"] = SERVFAIL
        unknown = await world.ask()
        off = await world.ask(tls={"mta_sts": False})

    assert found.sts is not None
    assert (found.sts.announced, found.sts.mode) == (True, "")
    assert found.sts.trouble == "mta-sts.y.test answered with 404"
    assert unknown.sts is not None
    assert "SERVFAIL" in unknown.sts.trouble
    assert off.sts is None


async def test_nobody_demands_anything(tmp_path: Path) -> None:
    async with open_world(tmp_path, OTHER) as world:
        world.zone["_smtp._tls.y.test"] = {"TXT": ['"v=TLSRPTv1; rua=mailto:t@y.test"']}
        found = await world.ask()

    assert found.text.startswith(
        "goes to mx1.y.test over TLS 1.3, not verified, which nobody demands: certificate was"
    )
    assert found.sts is not None
    assert not found.sts.announced
    assert found.reports == ("mailto:t@y.test",)
    assert (found.site, found.level) == ("mx1.y.test", "opportunistic")


@pytest.mark.parametrize("script", ["", "HANDSHAKE eof"])
@pytest.mark.parametrize(("downgrade", "word"), [("report", "(reported if"), ("refuse", "(waits")])
async def test_in_clear(tmp_path: Path, script: str, downgrade: str, word: str) -> None:
    async with open_world(tmp_path, GOOD if script else None, script) as world:
        found = await world.ask(tls={"downgrade": downgrade})

    assert found.text.startswith("goes to mx1.y.test in clear, as nobody demands TLS: ")
    assert word in found.text


@pytest.mark.parametrize(
    ("level", "issued", "verdict"),
    [
        ("require", None, "waits"),
        ("require", OTHER, "goes"),
        ("verify", OTHER, "waits"),
        ("verify", GOOD, "goes"),
        ("none", GOOD, "goes"),
    ],
)
async def test_what_the_configuration_demands(
    tmp_path: Path, level: str, issued: Issued | None, verdict: str
) -> None:
    async with open_world(tmp_path, issued) as world:
        found = await world.ask(site=[{"name": "s", "domains": ["y.test"], "tls": level}])

    assert (found.verdict, found.site, found.level) == (verdict, "s", level)
    assert only(found).demand.startswith("[[site]] tls: ")
    assert ("goes to mx1.y.test in clear" in found.text) == (level == "none")
    assert "tls.downgrade" not in found.text


# -- where it goes


async def test_a_route(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        world.publish()
        hosts = ["127.0.0.1:1", f"mx1.y.test:{world.host.port}"]
        found = await world.ask(route=[{"domains": ["y.test"], "hosts": hosts}])

    first, second = found.hosts
    assert (found.origin, found.mx, found.sts, found.secure) == ("route", (), None, True)
    assert (first.name, first.port, first.preference) == ("127.0.0.1", 1, None)
    assert second.session is not None
    assert second.session.state == "verified"
    assert found.text.startswith("goes to mx1.y.test over TLS 1.3, verified by an authority")
    assert "; not to 127.0.0.1: cannot connect to 127.0.0.1 port 1: " in found.text


async def test_one_address_of_a_host_is_enough(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        world.zone["mx1.y.test"] = {"A": ["127.0.0.66", "127.0.0.1"]}
        found = [await world.ask() for _ in range(6)]  # they are tried in any order

    sessions = [only(one).session for one in found]
    assert all(one and (one.address, one.state) == ("127.0.0.1", "verified") for one in sessions)


@pytest.mark.parametrize(
    ("records", "verdict", "text"),
    [
        ({}, "bounces", "y.test: no such name in the DNS (5.1.2)"),
        ({"y.test": {"MX": ["0 ."]}}, "bounces", "does not accept mail (null MX) (556 5.1.10)"),
        ({"y.test": SERVFAIL}, "waits", "SERVFAIL (4.4.3)"),
        ({"y.test": {"MX": ["0 gate.example.net."]}}, "waits", "back to this gateway (4.4.6)"),
        ({"y.test": {"MX": ["0 gone.y.test."]}}, "waits", "no usable IPv4 address"),
    ],
)
async def test_no_hosts(tmp_path: Path, records: dict[str, Any], verdict: str, text: str) -> None:
    async with open_world(tmp_path) as world:
        world.zone.clear()
        world.zone.update(records)
        found = await world.ask()

    assert found.verdict == verdict
    assert text in found.text
    assert not any(host.session for host in found.hosts)


async def test_an_address_literal(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        found = await world.ask("[127.0.0.1]")

    assert (found.verdict, found.origin, found.hosts) == ("bounces", "", ())
    assert world.dns.queries == []


async def test_the_domain_itself_is_the_host(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        world.zone["y.test"] = {"A": ["127.0.0.1"]}
        found = await world.ask()

    assert (found.origin, found.mx) == ("implicit", ())
    assert (only(found).name, only(found).preference) == ("y.test", None)


async def test_why_hosts_are_left_out(tmp_path: Path) -> None:
    names = ["mx1", "gone", "inside", "ours", "broken", "barred", "gate"]
    async with open_world(tmp_path) as world:
        world.zone["y.test"] = {
            "MX": [f"{n} {name}.y.test." for n, name in enumerate(names[:-1])]
            + ["90 gate.example.net.", "95 behind.y.test."]
        }
        world.zone["inside.y.test"] = {"A": ["127.0.0.200"]}
        world.zone["ours.y.test"] = {"A": ["127.0.0.9"]}
        world.zone["broken.y.test"] = SERVFAIL
        found = await world.ask(delivery={"prohibited_hosts": ["127.0.0.200", "barred.y.test"]})

    left_out = {host.name: host.left_out for host in found.hosts}
    assert found.verdict == "goes"
    assert next(iter(left_out)) == "mx1.y.test"
    assert left_out["mx1.y.test"] == ""
    assert left_out["gone.y.test"] == "it has no address that a source can reach"
    assert left_out["inside.y.test"] == "its addresses are prohibited (delivery.prohibited_hosts)"
    assert left_out["ours.y.test"] == "its addresses are those of this gateway"
    assert "SERVFAIL" in left_out["broken.y.test"]
    assert left_out["barred.y.test"] == "it is prohibited (delivery.prohibited_hosts)"
    assert left_out["gate.example.net"] == "it is this gateway"
    assert left_out["behind.y.test"].startswith("it comes behind this gateway in preference")


async def test_a_source_of_the_family_that_the_hosts_have(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, open_host(address="::1") as six:
        world.zone["mx1.y.test"] = {"AAAA": ["::1"]}
        sources = [{"name": "a", "address": "127.0.0.11"}, {"name": "b", "address": "::1"}]
        ours = await world.ask(source=sources[:1])
        # The second source's own address is ours: here it is the host's, too.
        sources[1]["address"] = "::"
        theirs = await world.ask(source=sources, delivery={"port": six.port})

    assert (ours.verdict, ours.hosts[0].left_out[:17]) == ("waits", "it has no address")
    assert theirs.text.startswith("goes to mx1.y.test in clear")


async def test_without_connecting(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        world.publish()
        found = await world.ask(connect=False)

    assert world.host.sessions == 0
    assert only(found).session is None
    assert found.text == (
        "would go to mx1.y.test, if that is as demanded: "
        "MTA-STS: TLS, and a trusted authority's certificate for this name"
    )


async def test_a_host_that_says_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    autojump_clock.autojump_threshold = 0.05
    async with open_world(tmp_path, GOOD, "EHLO silence") as world:
        found = await world.ask()

    assert found.text == "waits: no host can be used: mx1.y.test: no answer: timed out"
