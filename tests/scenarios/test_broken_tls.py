"""TLS that is missing, broken or not to be trusted, at every level that a site can demand.

opportunistic goes in clear rather than not at all; require and verify never do: the next host is
tried, and when there is none the message waits.
"""

import datetime as dt
import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
import trustme
from trio.testing import MockClock

from relay.config.schema import TlsLevel
from relay.model import Disposition
from relay.net.egress import DirectEgress
from tests.kit.peer import OFFERS, Shelf, make_claim, make_path, open_host, open_peer
from tests.kit.redis import Server
from tests.kit.works import open_works
from workers.peer import HostFailed
from workers.route import Path as MailPath

LEVELS: tuple[TlsLevel, ...] = ("none", "opportunistic", "require", "verify")
YESTERDAY = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)


@dataclass(frozen=True)
class Certificates:
    """Server contexts by what is wrong with them, and the file of the authority we trust."""

    ca_file: str
    contexts: dict[str, ssl.SSLContext]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    ours, other = trustme.CA(), trustme.CA()
    issued = {
        "good": ours.issue_cert("mx.test"),
        "wrong name": ours.issue_cert("mail.other.test"),
        "unknown authority": other.issue_cert("mx.test"),
        "expired": ours.issue_cert("mx.test", not_after=YESTERDAY),
    }
    contexts = {}
    for name, certificate in issued.items():
        contexts[name] = context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
    ca_file = tmp_path_factory.mktemp("ca") / "ca.pem"
    ours.cert_pem.write_to_path(ca_file)
    return Certificates(str(ca_file), contexts)


async def attempt(path: MailPath, ca_file: str) -> tuple[str, Disposition, str]:
    """Return TLS version ("" in clear), disposition and text of one attempt."""
    try:
        peer = await open_peer(path, DirectEgress("127.0.0.11"), ca_file=ca_file)
    except HostFailed as error:
        return "", error.outcome.disposition, error.outcome.text
    verdict = await peer.deliver(make_claim(), Shelf(), b"{}")  # type: ignore[arg-type]
    tls = peer.proof.protocol.partition(" ")[0]
    await peer.quit()
    return tls, verdict.outcomes[0].disposition, verdict.outcomes[0].text


DELIVERED, DEFERRED, _ = Disposition


@pytest.fixture
def virtual_clock() -> MockClock:
    return MockClock(autojump_threshold=0.01)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("state", ["good", "wrong name", "unknown authority", "expired"])
async def test_certificates(certificates: Certificates, state: str, level: TlsLevel) -> None:
    async with open_host(tls=certificates.contexts[state]) as host:
        tls, disposition, text = await attempt(host.make_path(level), certificates.ca_file)

    if level == "verify" and state != "good":
        assert disposition is DEFERRED
        assert "certificate" in text
        assert not host.messages
    else:
        assert disposition is DELIVERED
        assert host.messages[0].tls == tls == ("" if level == "none" else "TLSv1.3")


FAULTS = {
    "not offered": "",
    "refused": "STARTTLS 454 4.7.0 not now",
    "refused for good": "STARTTLS 554 5.7.0 never",
    "closed": "STARTTLS eof",
    "nonsense": "STARTTLS raw what?",
    "421": "STARTTLS 421 4.3.2 going down",
    "handshake nonsense": "HANDSHAKE raw this is not TLS at all, and long enough to say so",
    "handshake closed": "HANDSHAKE eof",
    "handshake reset": "HANDSHAKE reset",
}


@pytest.mark.parametrize("level", ["opportunistic", "require", "verify"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_faults(certificates: Certificates, fault: str, level: TlsLevel) -> None:
    tls = None if fault == "not offered" else certificates.contexts["good"]
    async with open_host(FAULTS[fault], tls=tls) as host:
        used, disposition, _ = await attempt(host.make_path(level), certificates.ca_file)

    if level == "opportunistic":
        assert (used, disposition) == ("", DELIVERED)
        assert host.messages[0].tls == ""
    else:
        assert disposition is DEFERRED
        assert not host.messages
        # Not a word about the message in clear.
        assert not any(line.startswith(("MAIL", "RCPT", "DATA")) for line in host.commands)


@pytest.mark.parametrize("level", ["opportunistic", "require"])
async def test_a_handshake_that_stalls_is_given_a_minute(
    virtual_clock: MockClock, certificates: Certificates, level: TlsLevel
) -> None:
    async with open_host("HANDSHAKE silence", tls=certificates.contexts["good"]) as host:
        start = trio.current_time()
        _, disposition, text = await attempt(host.make_path(level), certificates.ca_file)
        assert trio.current_time() - start == pytest.approx(60)
    assert disposition is (DELIVERED if level == "opportunistic" else DEFERRED)
    if level == "require":
        assert "handshake" in text


@pytest.mark.parametrize("level", ["require", "verify"])
async def test_the_next_host_is_tried(certificates: Certificates, level: TlsLevel) -> None:
    async with (
        open_host() as bare,
        open_host(tls=certificates.contexts["good"]) as good,
    ):
        path = make_path(bare.make_host(), good.make_host(), tls=level)
        tls, disposition, _ = await attempt(path, certificates.ca_file)
    assert (tls, disposition) == ("TLSv1.3", DELIVERED)
    assert not bare.messages


async def test_what_was_offered_in_clear_is_forgotten(certificates: Certificates) -> None:
    """RFC 3207 §4.2: somebody in the middle may have written it."""
    script = "EHLO2 250 mx.test|SMTPUTF8"
    async with open_host(script, offers=OFFERS, tls=certificates.contexts["good"]) as host:
        await attempt(host.make_path("require"), certificates.ca_file)
    mail = next(line for line in host.commands if line.startswith("MAIL"))
    assert "SIZE" not in mail
    assert host.commands.count("EHLO a.out.test") == 2


async def test_clear_text_behind_the_answer_to_starttls_is_an_attack(
    certificates: Certificates,
) -> None:
    script = "STARTTLS raw 220 go|250 injected"
    async with open_host(script, tls=certificates.contexts["good"]) as host:
        _, disposition, _ = await attempt(host.make_path("require"), certificates.ca_file)
    assert disposition is DEFERRED


async def test_the_message_waits_until_the_certificate_is_right(
    server: Server, tmp_path: Path, certificates: Certificates
) -> None:
    """The whole way: site demands verification, host is named by address in its certificate."""
    site = {"name": "strict", "domains": ["y.test"], "tls": "verify"}
    async with open_host(tls=certificates.contexts["wrong name"]) as host:
        settings = {
            "routes": {"y.test": [host.make_host()]},
            "tables": {"site": [site]},
            "ca_file": certificates.ca_file,
        }
        async with open_works(server, tmp_path, **settings) as works:
            await works.post()
            (event,) = await works.wait_for_event("deferred")
            await works.finish()
            works.check()
            await works.wait_for(queued=1, bounced=0, delivered=0)
    assert "certificate" in event["recipients"][0]["text"]
    assert event["wait"] > 0
    assert not host.messages
