"""What tests of the doctor begin with: sources, a configuration, and a resolver for a zone."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from relay.config import Config, Seconds, read
from relay.config.schema import Dns, Source
from relay.net.resolver import Resolver
from tests.kit.nameserver import Nameserver, open_nameserver
from workers.doctor.finding import Finding

A = Source(name="a", address="127.0.0.11", ehlo="a.out.test")
SIX = Source(name="six", address="2001:db8:0:0::11", ehlo="six.out.test")
ANY = Source(name="any", address="0.0.0.0", ehlo="any.out.test")
INSIDE = Source(name="inside", address="10.0.0.11", ehlo="inside.out.test")

# A source as it should be.
GOOD: dict[str, Any] = {
    "11.0.0.127.in-addr.arpa": {"PTR": ["a.out.test."]},
    "a.out.test": {"A": ["127.0.0.11"]},
    "acme.example": {"TXT": ['"v=spf1 ip4:127.0.0.11 -all"']},
    "2.0.0.127.bl.test": {"A": ["127.0.0.2"]},  # the list's test entry
}


@asynccontextmanager
async def open_resolver(zone: dict[str, Any]) -> AsyncIterator[Resolver]:
    async with open_nameserver(zone) as server:
        yield make_resolver(server)


def make_resolver(server: Nameserver) -> Resolver:
    return Resolver(Dns(nameservers=(server.endpoint,), timeout=Seconds(2)))


def make_config(base: Path, *, sources: Sequence[Source] = (A,), **tables: Any) -> Config:
    document: dict[str, Any] = {
        "ingress": {"hostname": "gate.example.net"},
        "tenant": [{"name": "acme", "domains": ["acme.example"], "networks": ["127.0.0.0/8"]}],
        "source": [{"name": one.name, "address": one.address, "ehlo": one.ehlo} for one in sources],
        **tables,
    }
    return read(document, base=base, environment={})


def levels(findings: Sequence[Finding]) -> list[tuple[str, str]]:
    return [(one.check, one.level) for one in findings]
