"""The checks of a host, against hosts that each have one thing wrong; and visits."""

import dataclasses
import ssl
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from relay.config import Config, read
from relay.config.schema import Source
from tests.kit.authority import Authority, Issued, make_self_signed
from tests.kit.nameserver import SERVFAIL, open_nameserver
from tests.kit.peer import ScriptedHost, find_refusing_host, make_path, open_host
from workers.hosts import Host
from workers.tls.guard import OPPORTUNISTIC, Guard
from workers.tls.pkix import Authorities
from workers.tls.probe import PROBE_FOR, Probed, choose_address, probe, visit

NAME = "gate.test"
ROOT = Authority("Root of the tests")
CA = ROOT.make_intermediate("Intermediate of the tests")
OTHER = Authority("Somebody else")
SOURCE = Source(name="a", address="127.0.0.11", ehlo="a.out.test")


@pytest.fixture(scope="module")
def ca_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(ROOT.write(tmp_path_factory.mktemp("probe")))


def configure(ca_file: str, **tables: Any) -> Config:
    source = [{"name": "a", "address": "127.0.0.11", "ehlo": "a.out.test"}]
    document = {"delivery": {"ca_file": ca_file}, "source": source, **tables}
    return read(document, base=Path(), environment={})


async def look(
    ca_file: str, issued: Issued | None, script: str = "", *, name: str = NAME, **more: Any
) -> Probed:
    tls = issued.make_context() if issued else None
    async with open_host(script, tls=tls, **more) as host:
        found = await probe(configure(ca_file), "127.0.0.1", host.port, name=name)
        assert host.commands[:1] in ([], ["EHLO a.out.test"])
        assert not {command[:4] for command in host.commands} & {"MAIL", "RCPT", "DATA"}
    return found


def states(found: Probed) -> dict[str, str]:
    return {check.name: check.state for check in found.checks}


def get(found: Probed, name: str) -> Any:
    (check,) = (check for check in found.checks if check.name == name)
    return check


GOOD = dict.fromkeys(("connection", "starttls", "tls", "chain", "name", "validity"), "ok")
UNSEEN = dict.fromkeys(("chain", "name", "validity"), "skipped")


async def test_a_host_that_is_as_it_should_be_passes(ca_file: str) -> None:
    issued = CA.issue(NAME, not_after=62)

    found = await look(ca_file, issued, offers=("REQUIRETLS",))

    assert (found.ok, states(found)) == (True, GOOD)
    assert (found.address, found.requiretls, found.name) == ("127.0.0.1", True, NAME)
    assert found.protocol.startswith("TLSv1.3 TLS_AES_")
    assert found.trusted == f"1 authority from {ca_file}"
    assert get(found, "validity").text.endswith("(61 days left)")
    leaf, above = found.certificates
    assert leaf.tlsa == f"3 1 1 {issued.tlsa(3, 1, 1).data.hex()}"
    assert above.tlsa == f"2 1 1 {CA.tlsa(2, 1, 1).data.hex()}"
    assert found.tlsa_name == f"_{found.port}._tcp.{NAME}."


WRONG: dict[str, tuple[Issued | None, str, dict[str, str], str, str, str]] = {
    # what is shown, script, states that are not ok, the check, its text, its advice
    "not offered": (
        None, "", {"starttls": "failed", "tls": "skipped", **UNSEEN},
        "starttls", "not offered", "[ingress.tls]",
    ),
    "refused": (
        CA.issue(NAME), "STARTTLS 454 not now", {"tls": "failed", **UNSEEN},
        "tls", "offers STARTTLS and refuses it", "TLS 1.2",
    ),
    "handshake breaks": (
        CA.issue(NAME), "HANDSHAKE eof", {"tls": "failed", **UNSEEN},
        "tls", "handshake", "TLS 1.2",
    ),
    "closed after TLS": (
        CA.issue(NAME), "EHLO2 eof", {"tls": "failed"}, "tls", "closed the connection", "TLS 1.2",
    ),
    "unknown authority": (
        OTHER.issue(NAME), "", {"chain": "failed"},
        "chain", "'Somebody else', and does not lead", "fullchain.pem",
    ),
    "unknown authority, shown": (
        OTHER.issue(NAME).showing(OTHER.certificate), "", {"chain": "failed"},
        "chain", "'Somebody else', and does not lead", "from a public authority",
    ),
    "self-signed": (
        make_self_signed(NAME), "", {"chain": "failed"},
        "chain", "signed by itself", "from a public authority",
    ),
    "intermediate not sent": (
        CA.issue(NAME).showing(), "", {"chain": "failed"},
        "chain", "does not lead to an authority that we trust",
        "'Intermediate of the tests' was not sent",
    ),
    "other name": (
        CA.issue("other.test", "*.gate.test"), "", {"name": "failed"},
        "name", "is for other.test, *.gate.test, not gate.test", "get one for gate.test",
    ),
    "no name": (
        CA.issue(common_name=NAME), "", {"name": "failed", "chain": "skipped"},
        "name", "is for no host name, not gate.test", "get one for gate.test",
    ),
    "expired": (
        CA.issue(NAME, not_after=-3), "", {"validity": "failed"},
        "validity", "expired on ", "renew it",
    ),
    "not yet": (
        CA.issue(NAME, not_before=2), "", {"validity": "failed"},
        "validity", "not valid before ", "clock",
    ),
    "issuer expired": (
        ROOT.make_intermediate("Old", not_after=-1).issue(NAME), "",
        {"validity": "failed", "chain": "failed"},
        "validity", "that of its issuer 'Old'", "renew it",
    ),
    "expired and of another name": (
        CA.issue("other.test", not_after=-3), "", {"validity": "failed", "name": "failed"},
        "name", "is for other.test", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
async def test_what_is_wrong_fails_and_nothing_else(ca_file: str, case: str) -> None:
    issued, script, wrong, name, text, advice = WRONG[case]

    found = await look(ca_file, issued, script)

    assert (found.ok, states(found)) == (False, {**GOOD, **wrong})
    check = get(found, name)
    assert text in check.text
    assert advice in check.advice


@pytest.mark.parametrize(("days", "state"), [(13.9, "warning"), (14.1, "ok")])
async def test_a_certificate_that_ends_soon_passes_with_a_warning(
    ca_file: str, days: float, state: str
) -> None:
    found = await look(ca_file, CA.issue(NAME, not_after=days))

    assert (found.ok, states(found)) == (True, {**GOOD, "validity": state})
    assert bool(get(found, "validity").advice) == (state == "warning")


async def test_an_old_root_that_is_sent_along_does_not_matter(ca_file: str) -> None:
    old = Authority("Root of the tests", not_after=-1, key=ROOT.key)
    issued = CA.issue(NAME).showing(CA.certificate, old.certificate)

    found = await look(ca_file, issued)

    assert (found.ok, states(found)) == (True, GOOD)


async def test_only_old_versions_of_tls(ca_file: str) -> None:
    context = CA.issue(NAME).make_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with open_host(tls=context) as host:
        found = await probe(configure(ca_file), "127.0.0.1", host.port, name=NAME)

    assert states(found) == {**GOOD, "tls": "failed", **UNSEEN}
    assert "TLS 1.2 or 1.3" in get(found, "tls").advice


async def test_the_name_is_asked_for_and_its_wildcard_will_do(ca_file: str) -> None:
    context, asked = CA.issue("*.gate.test").make_context(), []
    context.sni_callback = lambda _tls, name, _context: asked.append(name)
    async with open_host(tls=context) as host:
        found = await probe(configure(ca_file), "127.0.0.1", host.port, name="MX.gate.test.")

    assert found.ok
    assert asked == ["mx.gate.test"]


async def test_a_host_may_be_named_by_its_address(ca_file: str) -> None:
    found = await look(ca_file, CA.issue("127.0.0.1"), name="")

    assert found.ok
    assert found.tlsa_name == ""


async def test_ipv6(ca_file: str) -> None:
    async with open_host(tls=CA.issue("::1").make_context(), address="::1") as host:
        found = await probe(configure(ca_file), "0:0::1", host.port)

    assert (found.ok, found.name) == (True, "::1")


async def test_it_is_found_through_our_resolver(ca_file: str) -> None:
    zone: Any = {NAME: {"A": ["127.0.0.66", "127.0.0.1"]}, "bare.test": {}, "bad.test": SERVFAIL}
    async with (
        open_nameserver(zone) as dns,
        open_host(tls=CA.issue(NAME).make_context()) as host,
    ):
        config = configure(ca_file, dns={"nameservers": [str(dns.endpoint)], "timeout": "2s"})
        # The DNS gives addresses in any order.
        found = [await probe(config, NAME, host.port) for _ in range(6)]
        bare = await probe(config, "bare.test", host.port)
        bad = await probe(config, "bad.test", host.port)

    # Nobody listens on the other.
    assert {(one.ok, one.address) for one in found} == {(True, "127.0.0.1")}
    unseen = dict.fromkeys(GOOD, "skipped")
    assert states(bare) == states(bad) == {**unseen, "connection": "failed"}
    assert get(bare, "connection").text == "bare.test has no address in the DNS"
    assert "SERVFAIL" in get(bad, "connection").text


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("CONNECT 554 go away", "554 go away"),
        ("CONNECT eof", "closed"),
        ("CONNECT raw x", "nonsen"),
    ],
)
async def test_a_host_that_wants_no_session(ca_file: str, script: str, text: str) -> None:
    found = await look(ca_file, CA.issue(NAME), script)

    assert states(found) == {**dict.fromkeys(GOOD, "skipped"), "connection": "failed"}
    assert text in get(found, "connection").text


async def test_tls_that_is_broken_on_one_address_is_not_covered_up_by_another(
    ca_file: str, nursery: trio.Nursery
) -> None:
    tls = CA.issue(NAME).make_context()
    async with open_nameserver({NAME: {"A": ["127.0.0.66", "127.0.0.1"]}}) as dns:
        one = ScriptedHost("HANDSHAKE eof", tls=tls)
        await nursery.start(one.run)
        other = ScriptedHost("HANDSHAKE eof", tls=tls, address="127.0.0.66")
        other.port = one.port
        await nursery.start(other.run)
        found = await probe(
            configure(ca_file, dns={"nameservers": [str(dns.endpoint)]}), NAME, one.port
        )

    assert get(found, "tls").state == "failed"
    assert one.sessions + other.sessions == 1


async def test_nobody_listens(ca_file: str) -> None:
    found = await probe(configure(ca_file), "127.0.0.1", find_refusing_host().port, name=NAME)

    assert "Connection refused" in get(found, "connection").text
    assert not found.ok


@pytest.mark.parametrize(
    ("script", "name", "text"),
    [
        ("CONNECT silence", "connection", "no answer: timed out"),
        ("EHLO drip", "connection", "no answer: timed out"),
        ("STARTTLS silence", "connection", "no answer: timed out"),
        ("HANDSHAKE silence", "tls", "the TLS handshake does not come to an end"),
        ("EHLO2 silence", "tls", "no answer: timed out"),
    ],
)
async def test_it_does_not_take_for_ever(
    ca_file: str, script: str, name: str, text: str, autojump_clock: MockClock
) -> None:
    autojump_clock.autojump_threshold = 0.05  # the kernel takes its time for loopback
    start = trio.current_time()

    found = await look(ca_file, CA.issue(NAME), script)

    assert trio.current_time() - start <= PROBE_FOR
    assert get(found, name).text == text
    assert get(found, name).state == "failed"


# -- visits


def guarded(host: Host, guard: Guard) -> Host:
    return dataclasses.replace(host, guard=guard)


async def test_a_visit_is_as_good_as_its_host(ca_file: str) -> None:
    authorities = Authorities.load(ca_file)
    good, wrong = CA.issue("mx.test"), CA.issue("other.test")
    dane = Guard("dane", "verify", ("mx.test",), (wrong.tlsa(),))
    verify = Guard("site", "verify")
    async with (
        open_host(tls=good.make_context()) as one,
        open_host(tls=wrong.make_context()) as two,
        open_host() as bare,
        open_host("HANDSHAKE eof", tls=good.make_context()) as broken,
    ):
        seen = [
            (await visit(guarded(host.make_host(), guard), SOURCE, authorities)).session
            for host, guard in (
                (one, OPPORTUNISTIC), (two, OPPORTUNISTIC), (two, dane), (one, verify),
                (two, verify), (bare, OPPORTUNISTIC), (bare, verify), (broken, OPPORTUNISTIC),
                (broken, verify), (one, Guard("none", "none")),
            )
        ]  # fmt: skip

    assert [(session.state, session.verified, session.failing) for session in seen] == [
        ("verified", "pkix", ""),
        ("unverified", "", "certificate-host-mismatch"),
        ("verified", "dane-ee", ""),
        ("verified", "pkix", ""),
        ("failed", "", "certificate-host-mismatch"),
        ("clear", "", "starttls-not-supported"),
        ("failed", "", "starttls-not-supported"),
        ("clear", "", "validation-failure"),
        ("failed", "", "validation-failure"),
        ("clear", "", ""),
    ]
    assert seen[4].certificates[0].names == ("other.test",)
    assert one.ends == ["quit"] * 3


async def test_a_host_that_will_not_have_it_in_clear_either(ca_file: str) -> None:
    tls = CA.issue("mx.test").make_context()
    async with open_host("HANDSHAKE eof\nCONNECT2 554 no", tls=tls) as host:
        visited = await visit(host.make_host(), SOURCE, Authorities.load(ca_file))

    assert (visited.session.state, host.sessions) == ("failed", 2)
    assert visited.session.failing == "validation-failure"
    assert visited.session.text.endswith("; and in clear: 554 no")


async def test_a_host_that_is_not_there_at_all_is_not_asked_again_in_clear(ca_file: str) -> None:
    path = make_path(find_refusing_host())
    visited = await visit(path.hosts[0], SOURCE, Authorities.load(ca_file))

    assert (visited.session.state, visited.broken) == ("failed", False)


@pytest.mark.parametrize(
    ("address", "proxy", "target", "chosen"),
    [
        ("127.0.0.11", "", "192.0.2.1", "127.0.0.11"),
        ("192.0.2.77", "", "192.0.2.1", "0.0.0.0"),  # on another machine
        ("127.0.0.11", "socks5://127.0.0.1:1080", "192.0.2.1", "0.0.0.0"),
        ("127.0.0.11", "", "2001:db8::1", "::"),
        ("::1", "", "2001:db8::1", "::1"),
    ],
)
def test_where_it_is_done_from(address: str, proxy: str, target: str, chosen: str) -> None:
    assert choose_address(Source(name="a", address=address, proxy=proxy), target) == chosen
