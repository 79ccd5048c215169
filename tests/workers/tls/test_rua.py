"""The record that says where reports go."""

import pytest
from trio.testing import MockClock

from relay.config.schema import Dns
from relay.net.resolver import NameUnavailable, Resolver
from tests.kit.nameserver import SERVFAIL, Zone, open_nameserver
from workers.tls.rua import MAX_URIS, Audience, find_rua, parse_record, read_https, read_mailto

ZONE: Zone = {
    "_smtp._tls.mail.test": {"TXT": ['"v=TLSRPTv1; " "rua=mailto:reports@mail.test"']},
    "_smtp._tls.empty.test": {"A": ["192.0.2.1"]},
    "_smtp._tls.broken.test": SERVFAIL,
}


@pytest.mark.parametrize(
    ("record", "uris"),
    [
        (b"v=TLSRPTv1;rua=mailto:reports@example.com", ["mailto:reports@example.com"]),
        (b"v=TLSRPTv1; rua=https://r.example.com/v1", ["https://r.example.com/v1"]),
        (
            b"v=TLSRPTv1 ; rua=mailto:a@x.test ,\thttps://y.test ;",
            ["mailto:a@x.test", "https://y.test"],
        ),
        (b"v=TLSRPTv1; ext=1; rua=mailto:a@x.test; more", ["mailto:a@x.test"]),
        (b"v=TLSRPTv1; rua=mailto:a@x.test,mailto:a@x.test", ["mailto:a@x.test"]),
        (b"v=TLSRPTv1; rua=ftp://x.test/,mailto:a@x.test", ["mailto:a@x.test"]),
        (b"v=TLSRPTv1; rua=http://x.test/", []),
        (b"v=TLSRPTv1; rua=", []),
        (b"v=TLSRPTv1;", []),
        (b"v=TLSRPTv1", []),
        (b"v=TLSRPTv2; rua=mailto:a@x.test", []),
        (b"v=tlsrptv1; rua=mailto:a@x.test", []),
        (b" v=TLSRPTv1; rua=mailto:a@x.test", []),
        (b"v=TLSRPTv1; rua=mailto:\xe4@x.test", []),
        (b"v=TLSRPTv1; rua=mailto:a@x.test" + b" " * 5000, []),
    ],
)
def test_records(record: bytes, uris: list[str]) -> None:
    assert parse_record([record]) == tuple(uris)


def test_there_must_be_one() -> None:
    one = b"v=TLSRPTv1; rua=mailto:a@x.test"

    assert parse_record([]) == ()
    assert parse_record([b"v=spf1 -all", one]) == ("mailto:a@x.test",)
    assert parse_record([one, one]) == ()


def test_a_record_names_a_few_places() -> None:
    uris = ",".join(f"mailto:a{n}@x.test" for n in range(50))

    assert len(parse_record([f"v=TLSRPTv1; rua={uris}".encode()])) == MAX_URIS


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("mailto:reports@example.com", "reports@example.com"),
        ("MAILTO:a+b@Example.COM", "a+b@example.com"),
        ("mailto:a%2Cb@x.test", None),
        ("mailto:a%21b@x.test", "a!b@x.test"),
        ("mailto:a@x.test!10m", "a@x.test"),
        ("mailto:a@x.test?subject=hello", "a@x.test"),
        ("mailto:a%0D%0ABcc%3Ab@x.test", None),
        ("mailto:a@x.test%0D%0ARCPT", None),
        ("mailto:a@x.test%3E", None),
        ("mailto:%22a%20b%22@x.test", None),
        ("mailto:a@[192.0.2.1]", None),
        ("mailto:a", None),
        ("mailto:@x.test", None),
        ("mailto:" + "a" * 65 + "@x.test", None),
        ("mailto:a@" + "x" * 64 + ".test", None),
        ("mailto:%FF@x.test", None),
        ("mailto:a@m%C3%BCnchen.test", "a@xn--mnchen-3ya.test"),
        ("https://x.test", None),
    ],
)
def test_mailto(uri: str, address: str | None) -> None:
    found = read_mailto(uri)

    assert (found[0] if found else None) == address
    assert found is None or found[1] == found[0].rpartition("@")[2]


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("https://x.test", ("x.test", 443, "/")),
        ("https://X.Test:8443/a/b?c=d#e", ("x.test", 8443, "/a/b?c=d")),
        ("HTTPS://x.test./v1", ("x.test", 443, "/v1")),
        ("https://user:secret@x.test/", None),
        ("https://x.test:0x50/", None),
        ("https://x.test:99999/", None),
        ("https://[::1/", None),
        ("https://[::1]/", None),
        ("https:///path", None),
        ("http://x.test/", None),
    ],
)
def test_https(uri: str, place: tuple[str, int, str] | None) -> None:
    assert read_https(uri) == place


async def test_it_is_looked_up() -> None:
    async with open_nameserver(ZONE) as server:
        resolver = Resolver(Dns(nameservers=(server.endpoint,)))

        assert await find_rua(resolver, "mail.test") == ("mailto:reports@mail.test",)
        assert await find_rua(resolver, "empty.test") == ()
        assert await find_rua(resolver, "none.test") == ()
        with pytest.raises(NameUnavailable):
            await find_rua(resolver, "broken.test")
        asked = len(server.queries)
        for impossible in ("", "a b.test", "x\r\ny.test", "..", "a" * 64):
            assert await find_rua(resolver, impossible) == ()
        assert len(server.queries) == asked


async def test_who_wants_reports_is_remembered_for_an_hour(
    mock_clock: MockClock,
) -> None:
    async with open_nameserver(ZONE, ttl=1) as server:
        audience = Audience(Resolver(Dns(nameservers=(server.endpoint,))))
        for _ in range(2):
            for domain in ("mail.test", "none.test", "broken.test"):
                await audience.learn(domain)
            mock_clock.jump(200)
        assert [audience.wants(d) for d in ("mail.test", "none.test", "broken.test", "x.test")] == [
            *(True, False, None, None)
        ]
        assert count(server.queries) == {"mail.test": 1, "none.test": 1, "broken.test": 1}

        # What nobody could say is asked again sooner.
        server.zone = ZONE | {"_smtp._tls.broken.test": ZONE["_smtp._tls.mail.test"]}
        mock_clock.jump(101)
        await audience.learn("broken.test")
        assert audience.wants("broken.test")
        mock_clock.jump(3200)
        await audience.learn("mail.test")
        assert count(server.queries) == {"mail.test": 2, "none.test": 1, "broken.test": 2}


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.tls.rua._MAX_DOMAINS", 2)
    async with open_nameserver(ZONE) as server:
        audience = Audience(Resolver(Dns(nameservers=(server.endpoint,))))
        for domain in ("mail.test", "a.test", "b.test"):
            await audience.learn(domain)

    assert audience.wants("mail.test") is None
    assert audience.wants("b.test") is False


def count(queries: list[tuple[str, str]]) -> dict[str, int]:
    names = [name.removeprefix("_smtp._tls.") for name, _ in queries]
    return {name: len({n for n, asked in enumerate(names) if asked == name}) for name in names}
