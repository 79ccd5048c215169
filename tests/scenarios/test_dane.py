"""DANE: what stands in a host's zone, what the host shows, and what becomes of the mail (RFC 7672).

The columns are explained in ``tests/kit/verdicts.py``. Where usage 2 is published the host's
certificate comes from that authority, which nobody else knows, and the host shows it.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from trio.testing import MockClock

from relay.net.resolver import Tlsa
from tests.kit.authority import make_tlsa
from tests.kit.dnssec import Fault, Zone, find_obstacle
from tests.kit.domains import (
    SECOND,
    Domains,
    post,
    read_counted,
    send,
    wait_for_end,
    write_tlsa,
)
from tests.kit.redis import Server
from tests.kit.verdicts import Row, play, read_table

pytestmark = pytest.mark.skipif(find_obstacle() is not None, reason=str(find_obstacle()))

TABLE = """
demand | published         | host              | outcome          | by            | counted                                | text

dane   | 3 1 1             | valid             | verified dane-ee | dane          | tlsa                                   |
dane   | 3 1 1             | expired           | verified dane-ee | dane          | tlsa                                   |
dane   | 3 1 1             | wrong name        | verified dane-ee | dane          | tlsa                                   |
dane   | 3 1 1             | self-signed       | verified dane-ee | dane          | tlsa                                   |
dane   | 3 1 1             | unknown CA        | verified dane-ee | dane          | tlsa                                   |
dane   | 3 1 1             | another key       | deferred         | dane          | tlsa validation-failure                | none of 1 TLSA records matches; that of the key shown would be 3 1 1
dane   | 3 1 1             | no STARTTLS       | deferred         | dane          | tlsa starttls-not-supported            | does not offer STARTTLS; its TLSA records (DANE) demand verified TLS
dane   | 3 1 1             | STARTTLS refused  | deferred         | dane          | tlsa validation-failure                | offers STARTTLS and refuses it
dane   | 3 1 1             | handshake refused | deferred         | dane          | tlsa validation-failure                | TLS handshake failed
dane   | 3 1 1             | handshake slow    | verified dane-ee | dane          | tlsa                                   |
dane   | 3 1 1             | handshake stalls  | deferred         | dane          | tlsa validation-failure                | does not come to an end
dane   | 3 1 1             | TLS 1.0           | deferred         | dane          | tlsa validation-failure                | PROTOCOL_VERSION

dane   | 3 1 1 old + new   | valid             | verified dane-ee | dane          | tlsa                                   |
dane   | 3 1 1 old + new   | another key       | verified dane-ee | dane          | tlsa                                   |
dane   | 3 1 1 and 1 1 1   | valid             | verified dane-ee | dane          | tlsa                                   |
dane   | 3 1 1 and 1 1 1   | another key       | deferred         | dane          | tlsa validation-failure                | none of 1 TLSA records matches
dane   | 3 1 1 and 2 0 1   | another key       | verified dane-ta | dane          | tlsa                                   |

dane   | 2 0 1             | valid             | verified dane-ta | dane          | tlsa                                   |
dane   | 2 0 1             | domain name       | verified dane-ta | dane          | tlsa                                   |
dane   | 2 0 1             | another key       | verified dane-ta | dane          | tlsa                                   |
dane   | 2 0 1             | expired           | deferred         | dane          | tlsa certificate-expired               | certificate expired on
dane   | 2 0 1             | wrong name        | deferred         | dane          | tlsa certificate-host-mismatch         | is for mail.elsewhere.test, not for mx.
dane   | 2 0 1             | self-signed       | deferred         | dane          | tlsa validation-failure                | none of 1 TLSA records matches
dane   | 2 0 1             | unknown CA        | deferred         | dane          | tlsa validation-failure                | none of 1 TLSA records matches
dane   | 2 0 1             | root not shown    | deferred         | dane          | tlsa validation-failure                | none of 1 TLSA records matches
dane   | 2 0 1             | no STARTTLS       | deferred         | dane          | tlsa starttls-not-supported            | does not offer STARTTLS
dane   | 2 0 1             | handshake refused | deferred         | dane          | tlsa validation-failure                | TLS handshake failed
dane   | 2 0 1             | handshake stalls  | deferred         | dane          | tlsa validation-failure                | does not come to an end
dane   | 2 0 1             | TLS 1.0           | deferred         | dane          | tlsa validation-failure                | PROTOCOL_VERSION
dane   | 2 0 1 old + new   | valid             | verified dane-ta | dane          | tlsa                                   |
dane   | 2 0 1 old + new   | unknown CA        | verified dane-ta | dane          | tlsa                                   |

dane   | 0 0 1             | valid             | verified pkix    | dane          | tlsa tlsa-invalid                      |
dane   | 1 1 1             | valid             | verified pkix    | dane          | tlsa tlsa-invalid                      |
dane   | 1 1 1             | expired           | unverified       | dane          | tlsa tlsa-invalid                      | certificate expired on
dane   | 1 1 1             | wrong name        | unverified       | dane          | tlsa tlsa-invalid                      | is for mail.elsewhere.test
dane   | 1 1 1             | self-signed       | unverified       | dane          | tlsa tlsa-invalid                      | signed by itself
dane   | 1 1 1             | unknown CA        | unverified       | dane          | tlsa tlsa-invalid                      | issued by 'Unknown CA'
dane   | 1 1 1             | no STARTTLS       | deferred         | dane          | tlsa starttls-not-supported            | its TLSA records (DANE) demand TLS
dane   | 1 1 1             | handshake refused | deferred         | dane          | tlsa validation-failure                | TLS handshake failed
dane   | 1 1 1             | handshake stalls  | deferred         | dane          | tlsa validation-failure                | does not come to an end
dane   | 1 1 1             | TLS 1.0           | deferred         | dane          | tlsa validation-failure                | PROTOCOL_VERSION

dane   | bogus MX          | valid             | deferred         |               | -                                      | SERVFAIL
dane   | bogus address     | valid             | deferred         |               | -                                      | SERVFAIL
dane   | bogus TLSA        | valid             | deferred         |               | tlsa dnssec-invalid                    | its TLSA records cannot be had, so it gets no mail (DANE): _
dane   | TLSA SERVFAIL     | valid             | deferred         |               | tlsa dnssec-invalid                    | its TLSA records cannot be had, so it gets no mail (DANE): _
dane   | TLSA expired      | valid             | deferred         |               | tlsa dnssec-invalid                    | its TLSA records cannot be had, so it gets no mail (DANE): _
dane   | unsigned          | valid             | verified pkix    | opportunistic | no-policy-found                        |
dane   | unsigned          | another key       | verified pkix    | opportunistic | no-policy-found                        |
dane   | unsigned          | no STARTTLS       | clear            | opportunistic | no-policy-found starttls-not-supported | does not offer STARTTLS
dane   | no MX             | expired           | verified dane-ee | dane          | tlsa                                   |
dane   | secure alias      | expired           | verified dane-ee | dane          | tlsa                                   |
dane   | secure alias      | another key       | deferred         | dane          | tlsa validation-failure                | none of 1 TLSA records matches
dane   | alias to unsigned | expired           | verified dane-ee | dane          | tlsa                                   |
dane   | alias to unsigned | another key       | deferred         | dane          | tlsa validation-failure                | none of 1 TLSA records matches
dane   | MX in unsigned    | another key       | unverified       | opportunistic | no-policy-found                        | is for mx.
"""
ROWS = read_table(TABLE)


def list_records(domains: Domains, published: str) -> list[Tlsa]:
    """Return the TLSA records of a row."""
    host = domains.issue("valid", "any.test")
    unknown = make_tlsa(domains.unknown.certificate, 2, 0, 1)
    return {
        "3 1 1 old + new": [domains.another_ee, domains.ee],
        "3 1 1 and 1 1 1": [domains.ee, domains.another_ee._replace(usage=1)],
        "3 1 1 and 2 0 1": [domains.ee, domains.ta],
        "2 0 1": [domains.ta],
        "2 0 1 old + new": [domains.ta, unknown],
        "0 0 1": [domains.trusted.tlsa(0, 0, 1)],
        "1 1 1": [host.tlsa(1, 1, 1)],
    }.get(published, [domains.ee])


def arrange(domains: Domains, row: Row) -> None:
    """Write the zone of a row."""
    domain, host = row.domain, f"mx.{row.domain}"
    zone = domains.add(domain, tlsa=list_records(domains, row.published))
    names, records = zone.names, domains.name_tlsa(domain)
    match row.published:
        case "bogus MX":
            zone.spoilt.add(domain)
        case "bogus address":
            zone.spoilt.add(host)
        case "bogus TLSA":
            zone.spoilt.add(records)
        case "TLSA SERVFAIL" | "TLSA expired" as kind:
            fault = Fault.LAME if kind == "TLSA SERVFAIL" else Fault.EXPIRED
            domains.zones[f"_tcp.{host}"] = Zone({records: names.pop(records)}, fault=fault)
        case "unsigned":
            zone.signed = False
        case "no MX":
            names[domain] = {"A": names.pop(host)["A"]}
            names[domains.name_tlsa_of(domain)] = names.pop(records)
        case "secure alias":
            names[domain]["MX"] = [f"10 alias.{domain}."]
            names[f"alias.{domain}"] = {"CNAME": [f"{host}."]}
        case "alias to unsigned":
            domains.zones[f"plain-{domain}"] = Zone({f"plain-{domain}": names[host]}, signed=False)
            names[host] = {"CNAME": [f"plain-{domain}."]}
        case "MX in unsigned":
            plain = Zone({f"mx.plain-{domain}": names.pop(host)}, signed=False)
            plain.names[domains.name_tlsa(f"plain-{domain}")] = names.pop(records)
            names[domain]["MX"] = [f"10 mx.plain-{domain}."]
            domains.zones[f"plain-{domain}"] = plain


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Domains]:
    domains = Domains()
    for row in ROWS:
        arrange(domains, row)
    with domains.serve(tmp_path_factory.mktemp("ca")):
        yield domains


@pytest.fixture
def clock() -> MockClock:
    return MockClock(rate=1.0)


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_row(
    row: Row, domains: Domains, server: Server, tmp_path: Path, clock: MockClock
) -> None:
    by = domains.private if "2 0 1" in row.published else None
    await play(row, domains, server, tmp_path, clock, by=by)


# -- records that change, hosts that differ, sessions that stay


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Domains]:
    """Domains of one test, whose zones it may publish again."""
    domains = Domains()
    domains.add("y.test", tlsa=[domains.ee], hosts=("mx", "mx2"))
    domains.add("one.test", tlsa=[domains.ee])
    with domains.serve(tmp_path):
        yield domains


def publish(domains: Domains, clock: MockClock, *records: Tlsa) -> None:
    """Publish other records, and let what was cached of the old ones end."""
    name = domains.name_tlsa("one.test")
    domains.zones["one.test"].names[name]["TLSA"] = list(map(write_tlsa, records))
    assert domains.servers is not None
    domains.servers.publish()
    clock.jump(domains.servers.ttl + 1)


async def test_a_key_is_rolled_over_while_we_run(
    own: Domains, server: Server, tmp_path: Path, clock: MockClock
) -> None:
    async with own.open_works(server, tmp_path) as works:
        async with own.open_host("valid", "mx.one.test") as host:
            assert (await send(works, "one.test")).outcome == "verified dane-ee"
            publish(own, clock, own.ee, own.another_ee)
            assert (await send(works, "one.test")).outcome == "verified dane-ee"
        async with own.open_host("another key", "mx.one.test"):
            assert (await send(works, "one.test")).outcome == "verified dane-ee"
            publish(own, clock, own.another_ee)
            assert (await send(works, "one.test")).outcome == "verified dane-ee"
        assert len(host.messages) == 2


async def test_a_key_that_changes_before_its_record_holds_mail_up_until_then(
    own: Domains, server: Server, tmp_path: Path, clock: MockClock
) -> None:
    async with own.open_works(server, tmp_path) as works:
        async with own.open_host("valid", "mx.one.test"):
            assert (await send(works, "one.test")).outcome == "verified dane-ee"
            clock.jump(10)  # the session ends
        async with own.open_host("another key", "mx.one.test"):
            delivery = await post(works, "one.test")
            assert (await wait_for_end(works, delivery)).outcome == "deferred"
            publish(own, clock, own.another_ee)
            await works.hurry("one.test")
            ended = await wait_for_end(works, delivery, count=2)
        assert ended.outcome == "verified dane-ee"
        assert await read_counted(works, "one.test") == {"tlsa", "tlsa validation-failure"}


@pytest.mark.parametrize("kind", ["another key", "no STARTTLS"])
async def test_the_next_host_is_tried_when_one_does_not_show_what_it_should(
    own: Domains, server: Server, tmp_path: Path, kind: str
) -> None:
    async with (
        own.open_host(kind, "mx.y.test") as first,
        own.open_host("expired", "mx2.y.test", address=SECOND) as second,
        own.open_works(server, tmp_path) as works,
    ):
        ended = await send(works, "y.test")
        failing = "starttls-not-supported" if kind == "no STARTTLS" else "validation-failure"
        assert await read_counted(works, "y.test") == {"tlsa", f"tlsa {failing}"}
    assert (ended.outcome, ended.event["host"]) == ("verified dane-ee", "mx2.y.test")
    assert (len(first.messages), len(second.messages)) == (0, 1)


async def test_a_host_whose_records_cannot_be_had_is_left_out(
    own: Domains, server: Server, tmp_path: Path
) -> None:
    own.zones["y.test"].spoilt.add(own.name_tlsa("y.test"))
    assert own.servers is not None
    own.servers.publish()
    async with (
        own.open_host("valid", "mx.y.test") as first,
        own.open_host("valid", "mx2.y.test", address=SECOND),
        own.open_works(server, tmp_path) as works,
    ):
        ended = await send(works, "y.test")
    assert (ended.outcome, ended.event["host"]) == ("verified dane-ee", "mx2.y.test")
    assert not first.sessions


async def test_a_verified_session_carries_more_than_one_message(
    own: Domains, server: Server, tmp_path: Path
) -> None:
    async with (
        own.open_host("valid", "mx.one.test") as host,
        own.open_works(server, tmp_path) as works,
    ):
        ends = [await send(works, "one.test") for _ in range(3)]
        assert [ended.outcome for ended in ends] == ["verified dane-ee"] * 3
        # One certificate, and the event of each message names it.
        assert {ended.event["certificate"] for ended in ends} == {host.mark}
        assert all(ended.event["tls"].startswith("TLSv1.3 TLS_") for ended in ends)
    assert (host.sessions, host.counts["HANDSHAKE"], len(host.messages)) == (1, 1, 3)
