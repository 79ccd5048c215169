"""What a message itself asks of TLS, and what becomes of it (RFC 8689).

The columns are explained in ``tests/kit/verdicts.py``. "required" is the parameter REQUIRETLS of
MAIL: verified TLS, and only where it is passed on; "optional" the header field TLS-Required: No, with
which what receivers publish is not looked at.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from trio.testing import MockClock

from tests.kit.dnssec import find_obstacle
from tests.kit.domains import Domains, send, write_policy
from tests.kit.peer import OFFERS
from tests.kit.redis import Server
from tests.kit.verdicts import Row, play, read_table

pytestmark = pytest.mark.skipif(find_obstacle() is not None, reason=str(find_obstacle()))

TABLE = """
demand   | published            | host                     | outcome          | by            | counted                                | text

required | 3 1 1                | self-signed + REQUIRETLS | verified dane-ee | dane          | tlsa                                   |
required | 3 1 1                | self-signed              | bounced          | dane          | tlsa                                   | REQUIRETLS support required
required | 3 1 1                | another key + REQUIRETLS | deferred         | dane          | tlsa validation-failure                | none of 1 TLSA records matches
required | 3 1 1                | no STARTTLS + REQUIRETLS | deferred         | dane          | tlsa starttls-not-supported            | does not offer STARTTLS
required | 1 1 1                | valid + REQUIRETLS       | verified pkix    | requiretls    | no-policy-found                        |
required | 1 1 1                | expired + REQUIRETLS     | deferred         | requiretls    | no-policy-found                        | the sender (REQUIRETLS) demands verified TLS
required | bogus TLSA           | valid + REQUIRETLS       | deferred         |               | tlsa dnssec-invalid                    | its TLSA records cannot be had
required | policy               | valid + REQUIRETLS       | verified pkix    | sts           | sts                                    |
required | policy               | valid                    | bounced          | sts           | sts                                    | REQUIRETLS support required
required | policy               | expired + REQUIRETLS     | deferred         | sts           | sts certificate-expired                | certificate expired on
required | policy for another   | valid + REQUIRETLS       | deferred         |               | sts validation-failure                 | is not in the MTA-STS policy of
required | policy in testing    | valid + REQUIRETLS       | bounced          |               | -                                      | nothing vouches for the MX hosts of
required | signed               | valid + REQUIRETLS       | verified pkix    | requiretls    | no-policy-found                        |
required | signed               | valid                    | bounced          | requiretls    | no-policy-found                        | REQUIRETLS support required
required | signed               | expired + REQUIRETLS     | deferred         | requiretls    | no-policy-found                        | certificate expired on
required | nothing              | valid + REQUIRETLS       | bounced          |               | -                                      | it has neither DNSSEC nor an MTA-STS policy

optional | 3 1 1 of another key | valid                    | verified pkix    | opportunistic | no-policy-found                        |
optional | 3 1 1 of another key | expired                  | unverified       | opportunistic | no-policy-found                        | certificate expired on
optional | 3 1 1 of another key | no STARTTLS              | clear            | opportunistic | no-policy-found starttls-not-supported | does not offer STARTTLS
optional | 3 1 1 of another key | handshake refused        | clear            | opportunistic | no-policy-found validation-failure     | TLS handshake failed
optional | bogus TLSA           | valid                    | verified pkix    | opportunistic | no-policy-found                        |
optional | policy               | expired                  | unverified       | opportunistic | no-policy-found                        | certificate expired on
optional | policy for another   | valid                    | verified pkix    | opportunistic | no-policy-found                        |
"""
ROWS = read_table(TABLE)


def arrange(domains: Domains, row: Row) -> None:
    """Write the zone of a row."""
    unusable = domains.ee._replace(usage=1)
    tlsa = {
        "3 1 1": [domains.ee],
        "1 1 1": [unusable],
        "bogus TLSA": [domains.ee],
        "3 1 1 of another key": [domains.another_ee],
    }.get(row.published, [])
    sts = "1" if "policy" in row.published else ""
    zone = domains.add(
        row.domain, tlsa=tlsa, sts=sts, signed=bool(tlsa) or row.published == "signed"
    )
    if row.published == "bogus TLSA":
        zone.spoilt.add(domains.name_tlsa(row.domain))


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Domains]:
    domains = Domains()
    for row in ROWS:
        arrange(domains, row)
    domains.add("y.test", tlsa=[domains.ee])
    with domains.serve(tmp_path_factory.mktemp("ca")):
        yield domains


@pytest.fixture
def clock() -> MockClock:
    return MockClock(rate=1.0)


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_row(
    row: Row, domains: Domains, server: Server, tmp_path: Path, clock: MockClock
) -> None:
    async with domains.open_web() as web:
        if "policy" in row.published:
            mode = "testing" if "testing" in row.published else "enforce"
            mx = "mail.elsewhere.test" if "another" in row.published else f"mx.{row.domain}"
            web.answers[f"mta-sts.{row.domain}"] = write_policy(mode, mx)
        host = await play(row, domains, server, tmp_path, clock, web=web)
    passed_on = [line for line in host.commands if line.startswith("MAIL")]
    expected = row.demand == "required" and row.outcome.startswith("verified")
    assert any("REQUIRETLS" in line for line in passed_on) is expected


async def test_a_session_for_less_is_not_used_for_more(
    domains: Domains, server: Server, tmp_path: Path
) -> None:
    async with (
        domains.open_host("expired", "mx.y.test", offers=(*OFFERS, "REQUIRETLS")) as host,
        domains.open_works(server, tmp_path) as works,
    ):
        ends = [await send(works, "y.test", asked=asked) for asked in ("optional", "", "required")]
        assert [ended.outcome for ended in ends] == [
            "unverified",
            "verified dane-ee",
            "verified dane-ee",
        ]
    assert host.counts["HANDSHAKE"] == 3
    assert ["REQUIRETLS" in line for line in host.commands if line.startswith("MAIL")] == [
        False,
        False,
        True,
    ]
