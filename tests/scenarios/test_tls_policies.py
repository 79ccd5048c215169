"""What sites of the configuration demand of TLS, and what becomes of mail to all kinds of hosts.

The columns are explained in ``tests/kit/verdicts.py``; what receivers demand: test_dane.py,
test_mta_sts.py. No TLS and no DNS is made up here.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from trio.testing import MockClock

from tests.kit.dnssec import find_obstacle
from tests.kit.domains import Domains
from tests.kit.redis import Server
from tests.kit.verdicts import Row, play, read_table

pytestmark = pytest.mark.skipif(find_obstacle() is not None, reason=str(find_obstacle()))

TABLE = """
demand        | published     | host              | outcome       | by            | counted                                | text

none          | MX            | valid             | clear         | none          | -                                      |
none          | MX            | no STARTTLS       | clear         | none          | -                                      |

opportunistic | MX            | valid             | verified pkix | opportunistic | no-policy-found                        |
opportunistic | MX            | expired           | unverified    | opportunistic | no-policy-found                        | certificate expired on
opportunistic | MX            | wrong name        | unverified    | opportunistic | no-policy-found                        | is for mail.elsewhere.test, not for mx.
opportunistic | MX            | self-signed       | unverified    | opportunistic | no-policy-found                        | is signed by itself
opportunistic | MX            | unknown CA        | unverified    | opportunistic | no-policy-found                        | issued by 'Unknown CA', and does not lead to an authority that we trust
opportunistic | MX            | no STARTTLS       | clear         | opportunistic | no-policy-found starttls-not-supported | does not offer STARTTLS
opportunistic | MX            | STARTTLS refused  | clear         | opportunistic | no-policy-found validation-failure     | offers STARTTLS and refuses it
opportunistic | MX            | handshake refused | clear         | opportunistic | no-policy-found validation-failure     | TLS handshake
opportunistic | MX            | handshake slow    | verified pkix | opportunistic | no-policy-found                        |
opportunistic | MX            | handshake stalls  | clear         | opportunistic | no-policy-found validation-failure     | does not come to an end
opportunistic | MX            | TLS 1.0           | clear         | opportunistic | no-policy-found validation-failure     | TLS handshake failed

require       | MX            | valid             | verified pkix | site          | no-policy-found                        |
require       | MX            | expired           | unverified    | site          | no-policy-found                        | certificate expired on
require       | MX            | wrong name        | unverified    | site          | no-policy-found                        | is for mail.elsewhere.test, not for mx.
require       | MX            | self-signed       | unverified    | site          | no-policy-found                        | is signed by itself
require       | MX            | unknown CA        | unverified    | site          | no-policy-found                        | issued by 'Unknown CA', and does not lead to an authority that we trust
require       | MX            | no STARTTLS       | deferred      | site          | no-policy-found starttls-not-supported | does not offer STARTTLS
require       | MX            | STARTTLS refused  | deferred      | site          | no-policy-found validation-failure     | offers STARTTLS and refuses it
require       | MX            | handshake refused | deferred      | site          | no-policy-found validation-failure     | TLS handshake
require       | MX            | handshake slow    | verified pkix | site          | no-policy-found                        |
require       | MX            | handshake stalls  | deferred      | site          | no-policy-found validation-failure     | does not come to an end
require       | MX            | TLS 1.0           | deferred      | site          | no-policy-found validation-failure     | TLS handshake failed

verify        | MX            | valid             | verified pkix | site          | no-policy-found                        |
verify        | MX            | expired           | deferred      | site          | no-policy-found                        | certificate expired on
verify        | MX            | wrong name        | deferred      | site          | no-policy-found                        | is for mail.elsewhere.test, not for mx.
verify        | MX            | self-signed       | deferred      | site          | no-policy-found                        | is signed by itself
verify        | MX            | unknown CA        | deferred      | site          | no-policy-found                        | issued by 'Unknown CA', and does not lead to an authority that we trust
verify        | MX            | no STARTTLS       | deferred      | site          | no-policy-found starttls-not-supported | does not offer STARTTLS
verify        | MX            | STARTTLS refused  | deferred      | site          | no-policy-found validation-failure     | offers STARTTLS and refuses it
verify        | MX            | handshake refused | deferred      | site          | no-policy-found validation-failure     | TLS handshake
verify        | MX            | handshake slow    | verified pkix | site          | no-policy-found                        |
verify        | MX            | handshake stalls  | deferred      | site          | no-policy-found validation-failure     | does not come to an end
verify        | MX            | TLS 1.0           | deferred      | site          | no-policy-found validation-failure     | TLS handshake failed

opportunistic | bogus MX      | valid             | deferred      |               | -                                      | SERVFAIL
opportunistic | bogus address | valid             | deferred      |               | -                                      | SERVFAIL
none          | bogus MX      | valid             | deferred      |               | -                                      | SERVFAIL
verify        | bogus address | valid             | deferred      |               | -                                      | SERVFAIL
"""
ROWS = read_table(TABLE)


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Domains]:
    domains = Domains()
    for row in ROWS:
        zone = domains.add(row.domain, signed=row.published != "MX")
        if row.published == "bogus MX":
            zone.spoilt.add(row.domain)
        elif row.published == "bogus address":
            zone.spoilt.add(f"mx.{row.domain}")
    with domains.serve(tmp_path_factory.mktemp("ca")):
        yield domains


@pytest.fixture
def clock() -> MockClock:
    return MockClock(rate=1.0)


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_row(
    row: Row, domains: Domains, server: Server, tmp_path: Path, clock: MockClock
) -> None:
    await play(row, domains, server, tmp_path, clock)
