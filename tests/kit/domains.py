"""Recipient domains as strangers run them: what stands in their zones, and hosts with certificates.

    domains = Domains()
    domains.add("y.test", tlsa=[domains.ee])             # signed: there are records
    domains.add("z.test", sts="1")                       # announces a policy
    with domains.serve(tmp_path):                        # nsd and unbound; one for a module
        async with domains.open_host("valid", "y.test") as host, domains.open_web() as web:
            web.answers["mta-sts.z.test"] = write_policy("enforce", "mx.z.test")
            async with domains.open_works(server, tmp_path, web) as works:
                ended = await send(works, "y.test")

Hosts are ``mx.DOMAIN`` on 127.0.0.77, ``mx2`` on 127.0.0.78, at a port that is the module's and
``delivery.port``. All their certificates have the same key, that of ``domains.ee``, but for the kind
"another key". "valid" ones come from an authority that the gateway trusts (``trusted``), or with
``by=`` from another: ``private`` is known to nobody, and ``domains.ta`` stands for it.
"""

import ssl
import time
import warnings
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from relay.model import Delivery
from relay.net.resolver import Tlsa
from relay.store.keys import find_shard
from relay.store.tlsrpt import DAY, Sessions, decode
from tests.kit.authority import Authority, Issued, make_self_signed, make_tlsa
from tests.kit.dnssec import Servers, Zone, run_dnssec
from tests.kit.https import Answer, HttpsServer, open_https
from tests.kit.peer import OFFERS, ScriptedHost, open_host
from tests.kit.ports import find_free_port
from tests.kit.redis import Server
from tests.kit.works import Works, make_config, open_works

FIRST, SECOND = "127.0.0.77", "127.0.0.78"
_ENDS = ("delivered", "deferred", "bounced")


class Domains:
    """The domains, and those who vouch for them."""

    def __init__(self) -> None:
        self.port = find_free_port(FIRST)
        self.trusted, self.private, self.unknown = (
            Authority(name) for name in ("Trusted CA", "Private CA", "Unknown CA")
        )
        self.key, self.another_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        self.zones: dict[str, Zone] = {}
        self.servers: Servers | None = None
        self.ca_file = ""

    # -- DNS

    @property
    def ee(self) -> Tlsa:
        """The record for all hosts' key."""
        return self.issue("valid", "any.test").tlsa(3, 1, 1)

    @property
    def another_ee(self) -> Tlsa:
        """A record for the key that only "another key" has."""
        return self.issue("another key", "any.test").tlsa(3, 1, 1)

    @property
    def ta(self) -> Tlsa:
        """The record for the private authority."""
        return make_tlsa(self.private.certificate, 2, 0, 1)

    def add(
        self,
        domain: str,
        *,
        tlsa: Sequence[Tlsa] = (),
        sts: str = "",
        signed: bool | None = None,
        hosts: Sequence[str] = ("mx",),
    ) -> Zone:
        """Add a domain's zone; change it before ``serve``, or ``publish`` it afterwards.

        ``tlsa``: of each host. ``sts``: the id of a policy that is announced. ``signed``: when there
        are TLSA records, unless given.
        """
        names: dict[str, dict[str, list[str]]] = {
            domain: {"MX": [f"{10 * n} {host}.{domain}." for n, host in enumerate(hosts, 1)]},
            f"_smtp._tls.{domain}": {"TXT": ['"v=TLSRPTv1; rua=mailto:tls@reports.test"']},
        }
        for host, address in zip(hosts, (FIRST, SECOND), strict=False):
            names[f"{host}.{domain}"] = {"A": [address]}
            if tlsa:
                names[self.name_tlsa(domain, host)] = {"TLSA": list(map(write_tlsa, tlsa))}
        if sts:
            names[f"_mta-sts.{domain}"] = {"TXT": [f'"v=STSv1; id={sts}"']}
            names[f"mta-sts.{domain}"] = {"A": ["127.0.0.1"]}
        zone = Zone(names, signed=bool(tlsa) if signed is None else signed)
        self.zones[domain] = zone
        return zone

    def name_tlsa(self, domain: str, host: str = "mx") -> str:
        return self.name_tlsa_of(f"{host}.{domain}")

    def name_tlsa_of(self, host: str) -> str:
        return f"_{self.port}._tcp.{host}"

    @contextmanager
    def serve(self, directory: Path) -> Iterator[None]:
        """Serve the zones; ``directory``: for the file of trusted authorities."""
        self.ca_file = str(self.trusted.write(directory))
        with run_dnssec(self.zones) as self.servers:
            yield

    # -- hosts

    def issue(self, kind: str, name: str, *, by: Authority | None = None) -> Issued:
        """Return a host's certificate: valid, or what is wrong with it."""
        by = by or self.trusted
        match kind:
            case "expired":
                made = by.issue(name, key=self.key, not_after=-1)
            case "wrong name":
                made = by.issue("mail.elsewhere.test", key=self.key)
            case "self-signed":
                return make_self_signed(name, key=self.key)
            case "unknown CA":
                by = self.unknown
                made = by.issue(name, key=self.key)
            case "another key":
                made = by.issue(name, key=self.another_key)
            case "domain name":
                made = by.issue(name.partition(".")[2], key=self.key)
            case _:
                made = by.issue(name, key=self.key)
        # With usage 2 the host has to show the authority, too.
        return (
            made if by is self.trusted or kind == "root not shown" else made.showing(by.certificate)
        )

    @asynccontextmanager
    async def open_host(
        self,
        kind: str,
        name: str,
        *,
        by: Authority | None = None,
        script: str = "",
        address: str = FIRST,
        offers: tuple[str, ...] = OFFERS,
    ) -> AsyncIterator[ScriptedHost]:
        """Run a host; ``kind``: of its certificate, or "no STARTTLS", "TLS 1.0"."""
        issued = self.issue(kind, name, by=by)
        tls = None if kind == "no STARTTLS" else issued.make_context()
        if kind == "TLS 1.0":
            _make_old(tls)
        opening = open_host(
            script, offers=offers, tls=tls, name=name, address=address, port=self.port
        )
        async with opening as host:
            host.mark = issued.certificate.fingerprint(hashes.SHA256()).hex()
            yield host

    @asynccontextmanager
    async def open_web(self, *, by: Authority | None = None) -> AsyncIterator[HttpsServer]:
        """Run the web server of all domains; who is in ``answers`` has a policy there."""
        names = [f"mta-sts.{domain}" for domain in self.zones]
        async with open_https((by or self.trusted).issue(*names).make_context()) as web:
            yield web

    # -- the gateway

    def open_works(
        self,
        server: Server,
        base: Path,
        web: HttpsServer | None = None,
        *,
        levels: dict[str, str] | None = None,
        tls: dict[str, Any] | None = None,
        **delivery: Any,
    ) -> AbstractAsyncContextManager[Works]:
        """Run a pool that meets these domains and nobody else. ``levels``: domain -> tls of its site."""
        assert self.servers is not None, "serve them first"
        tables: dict[str, Any] = {
            # Not 127.0.0.1, where others' hosts may be: what is ours is no one else's host.
            "ingress": {"hostname": "gate.example.net", "listen": ["127.0.0.99:25"]},
            "dns": {"nameservers": [str(self.servers.endpoint)]},
            "tls": {"mta_sts_port": web.port if web else 1} | (tls or {}),
            "tls_reports": {"send": True},
            "site": [
                {"name": f"site-{level}", "domains": [domain], "tls": level}
                for domain, level in (levels or {}).items()
            ],
        }
        delivery = {
            "port": self.port, "prohibited_hosts": [], "ca_file": self.ca_file, "retry": ["1h"],
        } | delivery  # fmt: skip
        return open_works(server, base, config=make_config(base, tables=tables, **delivery))


def write_tlsa(record: Tlsa) -> str:
    return f"{record.usage} {record.selector} {record.matching} {record.data.hex()}"


def write_policy(mode: str, *mx: str, max_age: int = 86400) -> Answer:
    """Return a policy (RFC 8461 §3.2)."""
    lines = ["version: STSv1", f"mode: {mode}", *(f"mx: {one}" for one in mx)]
    return Answer("\n".join([*lines, f"max_age: {max_age}", ""]).encode())


def _make_old(context: ssl.SSLContext | None) -> None:
    assert context is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")


# -- what came of it


@dataclass(frozen=True)
class Ended:
    """The first end of an attempt, as its event tells it."""

    event: dict[str, Any]

    @property
    def outcome(self) -> str:
        """ "verified pkix", "unverified", "clear"; "deferred", "bounced"."""
        if self.event["event"] != "delivered":
            return str(self.event["event"])
        if not self.event["tls"]:
            return "clear"
        verified = self.event["tls_verified"]
        return f"verified {verified}" if verified else "unverified"

    @property
    def policy(self) -> str:
        return str(self.event.get("tls_policy", ""))

    @property
    def text(self) -> str:
        """Why: what the recipient's outcome says, or what was wrong with TLS all the same."""
        if self.event["event"] == "delivered":
            return str(self.event.get("tls_problem", ""))
        return str(self.event["recipients"][0]["text"])

    @property
    def status(self) -> str:
        return str(self.event["recipients"][0]["status"])


async def send(works: Works, domain: str, *, asked: str = "", seconds: float = 15) -> Ended:
    """Accept a message for a domain and wait until an attempt has ended.

    ``asked``: of TLS, by the message (``Envelope.tls``).
    """
    return await wait_for_end(works, await post(works, domain, asked=asked), seconds=seconds)


async def post(works: Works, domain: str, *, asked: str = "") -> Delivery:
    return await works.post(f"bob@{domain}".encode(), tls=asked)


async def wait_for_end(
    works: Works, delivery: Delivery, *, seconds: float = 15, count: int = 1
) -> Ended:
    """Wait until ``count`` attempts of a delivery have ended; return the last."""
    deadline = time.monotonic() + seconds  # the tests' clock may jump
    while time.monotonic() < deadline:
        ends = [
            event
            for name in _ENDS
            for event in works.read_events(name)
            if event["id"] == delivery.message_id
        ]
        if len(ends) >= count:
            return Ended(max(ends, key=lambda event: event["time"]))
        await trio.sleep(0.01)
    raise AssertionError(f"{delivery.domain}: no end of attempt {count} within {seconds} s")


async def read_counted(works: Works, domain: str) -> set[str]:
    """Return what reports to a domain would tell: "KIND" for a success, "KIND FAILING"."""
    assert works.security.tally is not None
    await works.security.tally.flush()
    today = int(time.time() // DAY)
    found = await Sessions(works.store.link).read(today, find_shard(domain))
    sessions = decode(found.get(domain, {}))
    return {f"{session.kind} {session.failing}".strip() for session in sessions}
