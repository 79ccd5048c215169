"""A Postfix as Debian ships it receives over TLS that its domains vouch for: DANE, and MTA-STS.

One instance and one certificate for four domains: it starts slowly.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.kit.dnssec import find_obstacle as find_dns_obstacle
from tests.kit.domains import Domains, read_counted, send, write_policy
from tests.kit.postfix import Postfix, find_obstacle
from tests.kit.redis import Server

OBSTACLE = find_obstacle() or find_dns_obstacle()
pytestmark = [
    pytest.mark.skipif(OBSTACLE is not None, reason=str(OBSTACLE)),
    pytest.mark.slow,
]


@asynccontextmanager
async def open_postfix(domains: Domains, base: Path) -> AsyncIterator[Postfix]:
    """Run a Postfix, mx.sts.test, that takes mail for all domains and throws it away."""
    chain, key = domains.issue("valid", "mx.sts.test").write(base, "postfix")
    settings = {
        "smtpd_tls_security_level": "may",
        "smtpd_tls_chain_files": f"{key}, {chain}",
        "smtpd_tls_loglevel": "1",
        "relay_domains": " ".join(domains.zones),
        "relay_transport": "discard",
    }
    postfix = Postfix(settings, port=domains.port)
    try:
        await trio.to_thread.run_sync(postfix.start)
        yield postfix
    finally:
        await trio.to_thread.run_sync(postfix.stop)


async def test_postfix_is_verified(server: Server, tmp_path: Path) -> None:
    domains = Domains()
    domains.add("dane.test", tlsa=[domains.ee])
    domains.add("wrong.test", tlsa=[domains.another_ee])
    domains.add("sts.test", sts="1")
    domains.add("alias.test", sts="1")  # its host's name is not in the certificate
    for domain, zone in domains.zones.items():
        zone.names[f"mx.{domain}"]["A"] = ["127.0.0.1"]
    with domains.serve(tmp_path):
        async with (
            domains.open_web() as web,
            open_postfix(domains, tmp_path) as postfix,
            domains.open_works(server, tmp_path, web, idle="1m") as works,
        ):
            for domain in ("sts.test", "alias.test"):
                web.answers[f"mta-sts.{domain}"] = write_policy("enforce", f"*.{domain}")
            order = [*domains.zones, "dane.test", "sts.test"]
            ends = [await send(works, domain) for domain in order]
            counted = [await read_counted(works, domain) for domain in domains.zones]
            log = postfix.read_log()
    assert [(ended.outcome, ended.policy) for ended in ends] == [
        ("verified dane-ee", "dane"),
        ("deferred", "dane"),
        ("verified pkix", "sts"),
        ("deferred", "sts"),
        ("verified dane-ee", "dane"),
        ("verified pkix", "sts"),
    ]
    assert "none of 1 TLSA records matches" in ends[1].text
    assert "is for mx.sts.test, not for mx.alias.test" in ends[3].text
    assert counted == [
        {"tlsa"},
        {"tlsa validation-failure"},
        {"sts"},
        {"sts certificate-host-mismatch"},
    ]
    # Postfix has seen a handshake for each domain, and four messages.
    assert log.count("TLS connection established") == 4
    assert log.count(": client=") == 4
