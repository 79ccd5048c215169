"""Documents from files and from a real HTTPS server."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from relay.config import Seconds
from relay.config.schema import Dns
from relay.ingress.networks import ranges
from relay.ingress.networks.ranges import MAX_OCTETS, RangesUnusable, parse_ranges, read_ranges
from relay.net.resolver import Resolver
from tests.kit.authority import Authority
from tests.kit.https import Answer, HttpsServer, open_https
from tests.kit.nameserver import SERVFAIL, Nameserver, open_nameserver

DOCUMENT = json.dumps(
    {
        "syncToken": "1732",
        "creationTime": "2026-11-28T00:00:00",
        "prefixes": [
            {"ipv4Prefix": "192.0.2.0/24", "service": "Any", "scope": "x"},
            {"ipv6Prefix": "2001:db8::/32"},
        ],
    }
).encode()
HOST = "ranges.test"
ROOT = Authority("Root of the tests")


def test_google_s_format() -> None:
    assert list(map(str, parse_ranges(DOCUMENT))) == ["192.0.2.0/24", "2001:db8::/32"]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b"", "not in the format"),
        (b"<html>", "not in the format"),
        (b"[]", "not in the format"),
        (b"{}", "prefixes"),
        (b'{"prefixes": [{"ipv4Prefix": 7}]}', "not in the format"),
        (b'{"prefixes": [{"ipv4Prefix": "\xff"}]}', "not in the format"),
        (b'{"prefixes": [{}]}', "expected one of ipv4Prefix and ipv6Prefix"),
        (b'{"prefixes": [{"ipv4Prefix": "192.0.2.1", "ipv6Prefix": "::1"}]}', "expected one of"),
        (b'{"prefixes": [{"ipv4Prefix": "192.0.2.1/24"}]}', "has host bits set"),
        (b'{"prefixes": [{"ipv4Prefix": "2001:db8::/32"}]}', "Expected 4 octets"),
        (b'{"prefixes": [{"ipv6Prefix": "192.0.2.0/24"}]}', "parts expected"),
        (b'{"x": ' + b"[" * 500_000, "not in the format"),
        (b'{"prefixes": [' + b"{}," * 10_000 + b"{}]}", "more than 10,000 networks"),
    ],
    ids=range(13),
)
def test_other_documents_are_errors(document: bytes, said: str) -> None:
    with pytest.raises(RangesUnusable, match=said):
        parse_ranges(document)


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda t: b'{"prefixes":' + t.encode()))
def test_any_octets_are_a_document_or_an_error(octets: bytes) -> None:
    with pytest.raises(RangesUnusable):
        parse_ranges(octets)


async def fail(place: str, resolver: Resolver | None = None, ca_file: str = "") -> str:
    try:
        await read_ranges(place, resolver, ca_file=ca_file)
    except RangesUnusable as error:
        return str(error)
    raise AssertionError("it was read")


async def test_file(tmp_path: Path) -> None:
    path = tmp_path / "ranges.json"
    path.write_bytes(DOCUMENT)
    assert len(await read_ranges(str(path), None, ca_file="")) == 2

    path.write_bytes(b"{}")
    assert await fail(str(path)) == (
        f"{path}: not in the format of goog.json: Object missing required field `prefixes`"
    )
    path.write_bytes(b" " * (MAX_OCTETS + 1))
    assert await fail(str(path)) == f"{path}: more than {MAX_OCTETS} octets"
    path.unlink()
    assert await fail(str(path)) == f"{path}: cannot be read: No such file or directory"


class Site:
    """A server, the DNS that leads to it, and our side."""

    def __init__(self, web: HttpsServer, dns: Nameserver, ca_file: str) -> None:
        self.web = web
        self.dns = dns
        self.ca_file = ca_file
        self.resolver = Resolver(Dns(nameservers=(dns.endpoint,), timeout=Seconds(5)))
        self.place = f"https://{HOST}:{web.port}/ranges.json?x=1"
        self.host = f"{HOST}:{web.port}"

    async def fail(self, answer: Answer) -> str:
        self.web.answers[self.host] = answer
        return await fail(self.place, self.resolver, self.ca_file)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    zone = {HOST: {"A": ["127.0.0.1"]}, "other.test": {"A": ["127.0.0.1"]}, "none.test": {}}
    async with (
        open_nameserver(dict(zone)) as dns,
        open_https(ROOT.issue(HOST, "127.0.0.1").make_context()) as web,
    ):
        site = Site(web, dns, str(ROOT.write(tmp_path)))
        web.answers[site.host] = Answer(DOCUMENT, content_type="application/json")
        yield site


async def test_document_over_https(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert len(await read_ranges(site.place, site.resolver, ca_file=site.ca_file)) == 2

    (request,) = site.web.requests
    assert (request.method, request.path, request.host) == ("GET", "/ranges.json?x=1", site.host)
    assert request.headers["accept-encoding"] == "identity"
    assert site.web.names == [HOST]


async def test_address_in_the_url_is_not_looked_up(site: Site) -> None:
    site.web.answers[f"127.0.0.1:{site.web.port}"] = Answer(DOCUMENT)
    place = f"https://127.0.0.1:{site.web.port}/x"

    assert len(await read_ranges(place, None, ca_file=site.ca_file)) == 2
    assert site.dns.queries == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(status=404), "answered with 404"),
        (
            Answer(status=302, headers=(("Location", "https://other.test/"),)),
            "answered with a redirection, which is not followed: 302",
        ),
        (Answer(b" " * (MAX_OCTETS + 1)), f"more than {MAX_OCTETS} octets"),
        (Answer(b" " * (MAX_OCTETS * 3), is_chunked=True), f"more than {MAX_OCTETS} octets"),
        (Answer(b"hello"), "not in the format of goog.json"),
    ],
    ids=range(5),
)
async def test_answer_that_is_none(site: Site, answer: Answer, said: str) -> None:
    text = await site.fail(answer)

    assert text.startswith(site.place)
    assert said in text
    assert len(site.web.requests) == 1


async def test_certificate_must_be_for_the_name_and_from_an_authority(site: Site) -> None:
    assert "certificate not accepted" in await fail(site.place, site.resolver)
    other = site.place.replace(HOST, "other.test")
    assert "certificate not accepted: Hostname mismatch" in await fail(
        other, site.resolver, site.ca_file
    )
    assert site.web.requests == []


async def test_host_that_cannot_be_found_or_reached(site: Site) -> None:
    for host, said in (
        ("none.test", "none.test has no address"),
        ("gone.test", "gone.test: no such name in the DNS"),
        ("broken.test", "broken.test: no usable answer from the DNS"),
    ):
        site.dns.zone = {**site.dns.zone, "broken.test": SERVFAIL}
        assert said in await fail(site.place.replace(HOST, host), site.resolver, site.ca_file)
    assert "there is no name server" in await fail(site.place, None, site.ca_file)
    assert "(127.0.0.1): " in await fail(f"https://{HOST}:1/", site.resolver, site.ca_file)
    assert "delivery.ca_file: cannot use" in await fail(site.place, site.resolver, "/nonexistent")
    assert await fail("https://[", site.resolver)


async def test_server_that_does_not_answer(site: Site, mock_clock: MockClock) -> None:
    site.web.gate = trio.Event()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _() -> None:
            said = await site.fail(Answer(DOCUMENT))
            assert said == f"{site.place}: no document came within 30 s"
            nursery.cancel_scope.cancel()

        while not site.web.requests:
            await trio.lowlevel.checkpoint()
        mock_clock.jump(ranges.FETCH_FOR + 1)


async def test_what_goes_on_for_ever_is_not_read_to_its_end(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "FETCH_FOR", 3.0)
    answer = Answer(b" " * (40 * 600_000), piece=600_000, pause=0.1, is_chunked=True)

    assert f"more than {MAX_OCTETS} octets" in await site.fail(answer)
