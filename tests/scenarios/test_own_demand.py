"""A host is not what one message, or one domain, demands of it: others' mail to it goes on."""

from pathlib import Path
from typing import Any

from tests.kit.authority import Authority
from tests.kit.https import Answer, open_https
from tests.kit.nameserver import open_nameserver
from tests.kit.peer import open_host
from tests.kit.redis import Server
from tests.kit.works import open_works

COUNT = 30


async def test_a_message_that_demands_requiretls_holds_up_nobody(
    server: Server, tmp_path: Path
) -> None:
    async with open_host() as host:
        settings = {"routes": {"y.test": [host.make_host()]}, "retry": ["1h"]}
        async with open_works(server, tmp_path, **settings) as works:
            for _ in range(3):
                await works.post(tls="required")
            await works.wait_for_event("deferred")
            await works.post_many(COUNT)
            await works.wait_for(delivered=COUNT, queued=3, seconds=5)
            await works.finish()
            works.check()
            assert works.read_events("resting") == []
            assert {event["tls"] for event in works.read_events("delivered")} == {""}


async def test_a_domain_whose_policy_does_not_hold_keeps_only_its_own_mail_back(
    server: Server, tmp_path: Path
) -> None:
    """Both domains have the same hosts, and so are one site."""
    authority = Authority()
    bad = authority.issue("elsewhere.test")
    policy = b"version: STSv1\nmode: enforce\nmx: mx.test\nmax_age: 86400\n"
    zone: dict[str, Any] = {
        "strict.test": {"MX": ["10 mx.test."]},
        "plain.test": {"MX": ["10 mx.test."]},
        "_mta-sts.strict.test": {"TXT": ['"v=STSv1; id=1;"']},
        "mta-sts.strict.test": {"A": ["127.0.0.1"]},
        "mx.test": {"A": ["127.0.0.21"]},  # not what the gateway itself has
    }
    async with (
        open_nameserver(zone) as names,
        open_https(authority.issue("mta-sts.strict.test").make_context()) as web,
        open_host(tls=bad.make_context(), address="127.0.0.21") as host,
    ):
        web.answers["mta-sts.strict.test"] = Answer(policy)
        settings = {
            "tables": {
                "dns": {"nameservers": [str(names.endpoint)]},
                "tls": {"mta_sts_port": web.port},
            },
            "prohibited_hosts": [],
            "port": host.port,
            "ca_file": str(authority.write(tmp_path)),
            "retry": ["1h"],
        }
        async with open_works(server, tmp_path, **settings) as works:
            await works.post_many(COUNT, b"bob@strict.test")
            (event, *_) = await works.wait_for_event("deferred")
            await works.post_many(COUNT, b"bob@plain.test")
            await works.wait_for(delivered=COUNT, queued=COUNT, seconds=10)
            await works.finish()
            works.check()
            assert works.read_events("resting") == []
            deferred = works.read_events("deferred")
    assert "certificate is for elsewhere.test" in event["recipients"][0]["text"]
    # One has found out; the others wait without an attempt.
    assert len(deferred) <= 3
    assert {message.recipients[0] for message in host.messages} == {b"bob@plain.test"}
