"""Fetching policies from a real HTTPS server: what counts as one, and whom we believe."""

import re
import ssl
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from relay.config import Seconds
from relay.config.schema import Dns
from relay.errors import StartError
from relay.net.resolver import Resolver
from tests.kit.authority import Authority, make_self_signed
from tests.kit.https import Answer, HttpsServer, open_https
from tests.kit.nameserver import SERVFAIL, Nameserver, open_nameserver
from workers.tls.fetch import MAX_OCTETS, StsFetchFailed, fetch_policy, make_context

POLICY = b"version: STSv1\r\nmode: enforce\r\nmx: mx.a.test\r\nmax_age: 86400\r\n"
HOST = "mta-sts.a.test"
ROOT = Authority("Root of the tests")
GOOD = ROOT.issue(HOST)
ZONE: dict[str, Any] = {HOST: {"A": ["127.0.0.1"]}}
FETCH, WEBPKI = "sts-policy-fetch-error", "sts-webpki-invalid"


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    return make_context(str(ROOT.write(tmp_path_factory.mktemp("ca"))))


class Site:
    """A server, the DNS that leads to it, and our side."""

    def __init__(self, web: HttpsServer, dns: Nameserver, context: ssl.SSLContext) -> None:
        self.web = web
        self.dns = dns
        self._context = context
        self._resolver = Resolver(Dns(nameservers=(dns.endpoint,), timeout=Seconds(5)))

    async def fetch(self, is_allowed: Callable[[str], bool] = lambda _: True) -> bytes:
        return await fetch_policy(
            "a.test",
            self._resolver,
            context=self._context,
            is_allowed=is_allowed,
            port=self.web.port,
        )

    async def fail(self, is_allowed: Callable[[str], bool] = lambda _: True) -> tuple[str, str]:
        with pytest.raises(StsFetchFailed) as caught:
            await self.fetch(is_allowed)
        return caught.value.failing, str(caught.value)


@asynccontextmanager
async def open_site(
    trusting: ssl.SSLContext, shown: ssl.SSLContext | None = None
) -> AsyncIterator[Site]:
    async with open_nameserver(dict(ZONE)) as dns, open_https(shown or GOOD.make_context()) as web:
        web.answers[HOST] = Answer(POLICY)
        yield Site(web, dns, trusting)


@pytest.fixture
async def site(trusting: ssl.SSLContext) -> AsyncIterator[Site]:
    async with open_site(trusting) as site:
        yield site


async def test_policy_is_asked_for_by_name_at_the_address_from_the_dns(site: Site) -> None:
    assert await site.fetch() == POLICY

    (request,) = site.web.requests
    assert (request.method, request.path, request.host) == (
        "GET", "/.well-known/mta-sts.txt", HOST,
    )  # fmt: skip
    assert site.web.names == [HOST]
    assert request.headers["accept-encoding"] == "identity"


async def test_environment_has_no_say(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent")

    assert await site.fetch() == POLICY


async def test_no_cookie_comes_back(site: Site) -> None:
    site.web.answers[HOST] = Answer(POLICY, headers=(("Set-Cookie", "who=you; Path=/"),))
    for _ in range(2):
        await site.fetch()

    assert not any("cookie" in request.headers for request in site.web.requests)


@pytest.mark.parametrize(
    "kind", ["text/plain", "text/plain; charset=utf-8", "Text/Plain;charset=us-ascii"]
)
async def test_content_type_may_have_parameters(site: Site, kind: str) -> None:
    site.web.answers[HOST] = Answer(POLICY, content_type=kind)

    assert await site.fetch() == POLICY


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (Answer(POLICY, 301, headers=(("Location", f"https://{HOST}/x"),)), "redirection.*301"),
        (Answer(POLICY, 302, headers=(("Location", "http://127.0.0.1/"),)), "redirection.*302"),
        (Answer(b"", 304), "answered with .*304"),
        (Answer(POLICY, 404), "answered with 404"),
        (Answer(POLICY, 500), "answered with 500"),
        (Answer(POLICY, 203), "answered with 203"),
        (Answer(POLICY, content_type="text/html"), "text/html, not with text/plain"),
        (Answer(POLICY, content_type="text/plainer"), "not with text/plain"),
        (Answer(POLICY, content_type=""), "no content type"),
        (Answer(b"x" * 100 * 1024), "more than 65536 octets"),
        (Answer(b"x" * 100 * 1024, is_chunked=True), "more than 65536 octets"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_anything_else_is_not_a_policy(site: Site, answer: Answer, text: str) -> None:
    site.web.answers[HOST] = answer
    failing, said = await site.fail()

    assert failing == FETCH
    assert said.startswith(HOST)
    assert re.search(text, said)
    assert len(site.web.requests) == 1  # nobody followed anything


async def test_longest_policy_is_read(site: Site) -> None:
    site.web.answers[HOST] = Answer(b"x" * MAX_OCTETS)

    assert len(await site.fetch()) == MAX_OCTETS


@pytest.mark.parametrize(
    ("issued", "text"),
    [
        (ROOT.issue(HOST, not_after=-1), "expired"),
        (ROOT.issue(HOST, not_before=1), "not yet valid"),
        (ROOT.issue("a.test"), "mismatch"),
        (ROOT.issue("mta-sts.b.test"), "mismatch"),
        (ROOT.issue(common_name=HOST), "mismatch"),
        (make_self_signed(HOST), "self-signed"),
        (Authority().issue(HOST), "local issuer"),
    ],
    ids=["expired", "not yet", "the domain's", "another's", "common name", "own", "unknown"],
)
async def test_certificate_must_be_good(trusting: ssl.SSLContext, issued: Any, text: str) -> None:
    async with open_site(trusting, issued.make_context()) as site:
        failing, said = await site.fail()

        assert failing == WEBPKI
        assert text in said
        assert site.web.requests == []


async def test_wildcard_is_good(trusting: ssl.SSLContext) -> None:
    async with open_site(trusting, ROOT.issue("*.a.test").make_context()) as site:
        assert await site.fetch() == POLICY


async def test_old_tls_is_not_enough(trusting: ssl.SSLContext) -> None:
    shown = GOOD.make_context()
    shown.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        shown.maximum_version = ssl.TLSVersion.TLSv1_1
    shown.set_ciphers("ALL:@SECLEVEL=0")
    async with open_site(trusting, shown) as site:
        assert (await site.fail())[0] == WEBPKI


async def test_prohibited_address_is_not_connected_to(site: Site) -> None:
    failing, said = await site.fail(is_allowed=lambda address: address != "127.0.0.1")

    assert (failing, said) == (FETCH, f"{HOST} has no address that may be connected to")
    assert site.web.connections == 0


async def test_next_address_is_tried_when_one_is_dead(site: Site) -> None:
    # Nothing listens on the first; addresses come in the order of the zone.
    site.dns.zone = {HOST: {"A": ["127.0.0.9", "127.0.0.1"]}}

    assert await site.fetch() == POLICY


@pytest.mark.parametrize(
    ("zone", "text"),
    [
        ({}, "no such name"),
        ({HOST: {"TXT": ['"x"']}}, "has no address"),
        ({HOST: SERVFAIL}, "SERVFAIL"),
        ({HOST: {"A": ["127.0.0.9"]}}, "127.0.0.9"),
    ],
    ids=["no name", "no address", "SERVFAIL", "refused"],
)
async def test_host_must_be_there(site: Site, zone: dict[str, Any], text: str) -> None:
    site.dns.zone = zone
    failing, said = await site.fail()

    assert failing == FETCH
    assert text in said


async def test_slow_answer_is_not_waited_for(site: Site, mock_clock: MockClock) -> None:
    # An octet every ten seconds: always something, and it would take a quarter of an hour.
    site.web.answers[HOST] = Answer(POLICY, pause=10, piece=1)
    mock_clock.autojump_threshold = 0.02

    failing, said = await site.fail()

    assert (failing, said) == (FETCH, f"{HOST}: no policy came within 30 s")
    assert mock_clock.current_time() == pytest.approx(30)


async def test_silent_server_is_not_waited_for(
    trusting: ssl.SSLContext, mock_clock: MockClock
) -> None:
    """It accepts connections, and never says a word."""
    listener = trio.socket.socket()
    with listener:
        await listener.bind(("127.0.0.1", 0))
        listener.listen()
        async with open_site(trusting) as site:
            site.web.port = listener.getsockname()[1]
            mock_clock.autojump_threshold = 0.02

            assert (await site.fail())[0] == FETCH
    assert mock_clock.current_time() == pytest.approx(10)


async def test_rest_of_a_long_answer_is_not_waited_for(site: Site, mock_clock: MockClock) -> None:
    site.web.answers[HOST] = Answer(b"x" * 300_000, pause=2, piece=70_000)
    mock_clock.autojump_threshold = 0.02

    assert "more than 65536 octets" in (await site.fail())[1]
    assert mock_clock.current_time() == pytest.approx(2)


@pytest.mark.parametrize(
    "octets", [b"", b"HTTP/1.1 200 OK\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x28"]
)
async def test_what_is_not_tls_fails(trusting: ssl.SSLContext, octets: bytes) -> None:
    async def talk(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(octets)

    async with open_site(trusting) as site, trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        site.web.port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, talk, [listener])

        assert (await site.fail())[0] in (FETCH, WEBPKI)
        nursery.cancel_scope.cancel()


def test_context_is_built_once(tmp_path: Path) -> None:
    path = str(ROOT.write(tmp_path))
    context = make_context(path)

    assert make_context(path) is context
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert not context.hostname_checks_common_name
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_authorities_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nonsense")
    for name in ("ca.pem", "missing.pem"):
        with pytest.raises(StartError, match=r"delivery\.ca_file: .*" + name):
            make_context(str(tmp_path / name))
