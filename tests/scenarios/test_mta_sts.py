"""MTA-STS: what a domain publishes, what its host shows, and what becomes of the mail (RFC 8461).

The columns are explained in ``tests/kit/verdicts.py``. Policies come from a real HTTPS server, or
were left in the store by another worker ("cached": mode enforce, id 0, for the right host).
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from trio.testing import MockClock

from relay.store.link import Link
from relay.store.stscache import StoredSts, StsCache
from tests.kit.dnssec import find_obstacle
from tests.kit.domains import Domains, send, write_policy
from tests.kit.https import Answer
from tests.kit.redis import Server
from tests.kit.verdicts import Row, play, read_table

pytestmark = pytest.mark.skipif(find_obstacle() is not None, reason=str(find_obstacle()))

TABLE = """
demand    | published                    | host              | outcome          | by            | counted                                                             | text

enforce   | policy                       | valid             | verified pkix    | sts           | sts                                                                 |
enforce   | policy                       | expired           | deferred         | sts           | sts certificate-expired                                             | certificate expired on
enforce   | policy                       | wrong name        | deferred         | sts           | sts certificate-host-mismatch                                       | is for mail.elsewhere.test, not for mx.
enforce   | policy                       | self-signed       | deferred         | sts           | sts certificate-not-trusted                                         | signed by itself
enforce   | policy                       | unknown CA        | deferred         | sts           | sts certificate-not-trusted                                         | the domain's MTA-STS policy demands verified TLS
enforce   | policy                       | no STARTTLS       | deferred         | sts           | sts starttls-not-supported                                          | does not offer STARTTLS
enforce   | policy                       | STARTTLS refused  | deferred         | sts           | sts validation-failure                                              | offers STARTTLS and refuses it
enforce   | policy                       | handshake refused | deferred         | sts           | sts validation-failure                                              | TLS handshake failed
enforce   | policy                       | handshake slow    | verified pkix    | sts           | sts                                                                 |
enforce   | policy                       | handshake stalls  | deferred         | sts           | sts validation-failure                                              | does not come to an end
enforce   | policy                       | TLS 1.0           | deferred         | sts           | sts validation-failure                                              | PROTOCOL_VERSION
enforce   | policy for *.domain          | valid             | verified pkix    | sts           | sts                                                                 |
enforce   | policy for another           | valid             | deferred         |               | sts validation-failure                                              | is not in the MTA-STS policy of
enforce   | policy, 3 1 1                | self-signed       | verified dane-ee | dane          | tlsa                                                                |
enforce   | policy, 3 1 1                | another key       | deferred         | dane          | tlsa validation-failure                                             | none of 1 TLSA records matches
enforce   | policy for another, 3 1 1    | valid             | verified dane-ee | dane          | tlsa                                                                |
enforce   | policy, bogus TLSA           | valid             | deferred         |               | tlsa dnssec-invalid                                                 | its TLSA records cannot be had

testing   | policy                       | valid             | verified pkix    | opportunistic | sts                                                                 |
testing   | policy                       | expired           | unverified       | opportunistic | sts certificate-expired                                             | certificate expired on
testing   | policy                       | wrong name        | unverified       | opportunistic | sts certificate-host-mismatch                                       | is for mail.elsewhere.test
testing   | policy                       | self-signed       | unverified       | opportunistic | sts certificate-not-trusted                                         | signed by itself
testing   | policy                       | unknown CA        | unverified       | opportunistic | sts certificate-not-trusted                                         | issued by 'Unknown CA'
testing   | policy                       | no STARTTLS       | clear            | opportunistic | sts starttls-not-supported                                          | does not offer STARTTLS
testing   | policy                       | STARTTLS refused  | clear            | opportunistic | sts validation-failure                                              | offers STARTTLS and refuses it
testing   | policy                       | handshake refused | clear            | opportunistic | sts validation-failure                                              | TLS handshake failed
testing   | policy                       | handshake slow    | verified pkix    | opportunistic | sts                                                                 |
testing   | policy                       | handshake stalls  | clear            | opportunistic | sts validation-failure                                              | does not come to an end
testing   | policy                       | TLS 1.0           | clear            | opportunistic | sts validation-failure                                              | PROTOCOL_VERSION
testing   | policy for another           | valid             | verified pkix    | opportunistic | sts validation-failure                                              |

mode none | policy                       | expired           | unverified       | opportunistic | no-policy-found                                                     | certificate expired on

enforce   | page missing                 | valid             | verified pkix    | opportunistic | sts sts-policy-fetch-error + no-policy-found                        |
enforce   | page missing                 | expired           | unverified       | opportunistic | sts sts-policy-fetch-error + no-policy-found                        | certificate expired on
enforce   | page missing                 | no STARTTLS       | clear            | opportunistic | sts sts-policy-fetch-error + no-policy-found starttls-not-supported | does not offer STARTTLS
enforce   | page is nonsense             | expired           | unverified       | opportunistic | sts sts-policy-invalid + no-policy-found                            | certificate expired on
enforce   | web server untrusted         | expired           | unverified       | opportunistic | sts sts-webpki-invalid + no-policy-found                            | certificate expired on
enforce   | page missing, cached         | valid             | verified pkix    | sts           | sts                                                                 |
enforce   | page missing, cached         | expired           | deferred         | sts           | sts certificate-expired                                             | certificate expired on
enforce   | page missing, cached         | no STARTTLS       | deferred         | sts           | sts starttls-not-supported                                          | does not offer STARTTLS
enforce   | web server untrusted, cached | expired           | deferred         | sts           | sts certificate-expired                                             | certificate expired on
enforce   | record gone, cached          | valid             | verified pkix    | sts           | sts                                                                 |
enforce   | record gone, cached          | expired           | deferred         | sts           | sts certificate-expired                                             | certificate expired on
enforce   | record bogus, cached         | expired           | deferred         | sts           | sts certificate-expired                                             | certificate expired on
enforce   | same id, cached              | expired           | deferred         | sts           | sts certificate-expired                                             | certificate expired on
enforce   | policy, cached               | valid             | verified pkix    | sts           | sts                                                                 |
enforce   | policy for another, cached   | valid             | deferred         |               | sts validation-failure                                              | is not in the MTA-STS policy of
testing   | policy, cached               | expired           | unverified       | opportunistic | sts certificate-expired                                             | certificate expired on
mode none | policy, cached               | expired           | unverified       | opportunistic | no-policy-found                                                     | certificate expired on
"""
ROWS = read_table(TABLE)


def arrange(domains: Domains, row: Row) -> None:
    """Write the zone of a row."""
    tlsa = [domains.ee] if "3 1 1" in row.published or "TLSA" in row.published else []
    ident = {"record gone, cached": "", "same id, cached": "0"}.get(row.published, "1")
    zone = domains.add(row.domain, tlsa=tlsa, sts=ident)
    if "bogus TLSA" in row.published:
        zone.spoilt.add(domains.name_tlsa(row.domain))
    elif "record bogus" in row.published:
        zone.signed = True
        zone.spoilt.add(f"_mta-sts.{row.domain}")


def make_page(row: Row) -> Answer | None:
    """Return what a row's web server says; None: there is no such page."""
    mode = row.demand.removeprefix("mode ")
    match row.published.split(",")[0]:
        case "policy for another":
            return write_policy(mode, "mail.elsewhere.test")
        case "policy for *.domain":
            return write_policy(mode, f"*.{row.domain}")
        case "page is nonsense":
            return Answer(b"<html>")
        case "page missing" | "record gone" | "same id":
            return None
        case _:
            return write_policy(mode, f"mx.{row.domain}")


async def cache(link: Link, domain: str) -> None:
    """Leave a policy in the store, as another worker would have an hour ago."""
    now = time.time()
    text = write_policy("enforce", f"mx.{domain}").body.decode()
    stored = StoredSts("0", text, now - 3600, now + 86400)
    await StsCache(link).write(domain, stored, lifetime=86400)


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Domains]:
    domains = Domains()
    for row in ROWS:
        arrange(domains, row)
    # Two domains on the same hosts, one of them with a policy.
    domains.add("strict.test", sts="1").names["strict.test"]["MX"] = ["10 mx.shared.test."]
    domains.add("lax.test").names["lax.test"]["MX"] = ["10 mx.shared.test."]
    domains.add("shared.test")
    with domains.serve(tmp_path_factory.mktemp("ca")):
        yield domains


@pytest.fixture
def clock() -> MockClock:
    return MockClock(rate=1.0)


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_row(
    row: Row, domains: Domains, server: Server, tmp_path: Path, clock: MockClock, link: Link
) -> None:
    if "cached" in row.published:
        await cache(link, row.domain)
    by = domains.unknown if "untrusted" in row.published else None
    async with domains.open_web(by=by) as web:
        if (page := make_page(row)) is not None:
            web.answers[f"mta-sts.{row.domain}"] = page
        await play(row, domains, server, tmp_path, clock, web=web)


# -- whom a session serves


@pytest.mark.parametrize("order", [("strict.test", "lax.test"), ("lax.test", "strict.test")])
async def test_domains_on_the_same_host_do_not_share_sessions(
    domains: Domains, server: Server, tmp_path: Path, order: tuple[str, str]
) -> None:
    async with (
        domains.open_web() as web,
        domains.open_host("valid", "mx.shared.test") as host,
        domains.open_works(server, tmp_path, web) as works,
    ):
        web.answers["mta-sts.strict.test"] = write_policy("enforce", "mx.shared.test")
        ends = {domain: await send(works, domain) for domain in order}
        assert {domain: ended.policy for domain, ended in ends.items()} == {
            "strict.test": "sts",
            "lax.test": "opportunistic",
        }
        assert host.counts["HANDSHAKE"] == 2
        for domain in order:
            await send(works, domain)
    assert host.counts["HANDSHAKE"] == 2


async def test_what_one_domain_demands_holds_up_nobody_elses_mail(
    domains: Domains, server: Server, tmp_path: Path
) -> None:
    async with (
        domains.open_web() as web,
        domains.open_host("expired", "mx.shared.test") as host,
        domains.open_works(server, tmp_path, web) as works,
    ):
        web.answers["mta-sts.strict.test"] = write_policy("enforce", "mx.shared.test")
        assert (await send(works, "lax.test")).outcome == "unverified"
        assert (await send(works, "strict.test")).outcome == "deferred"
        assert (await send(works, "lax.test")).outcome == "unverified"
    assert [message.recipients for message in host.messages] == [(b"bob@lax.test",)] * 2


async def test_a_policy_that_cannot_be_had_again_is_told_of(
    domains: Domains, server: Server, tmp_path: Path, link: Link
) -> None:
    await cache(link, "strict.test")
    async with (
        domains.open_web() as web,
        domains.open_host("valid", "mx.shared.test"),
        domains.open_works(server, tmp_path, web) as works,
    ):
        await send(works, "strict.test")
        (event,) = await works.wait_for_event("policy-not-refreshed")
    assert event["domain"] == "strict.test"
    assert "404" in str(event["text"])
