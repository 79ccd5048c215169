"""What all sessions of a process share, and how it comes about from the configuration."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import trio

from relay.archive import open_archive
from relay.config.schema import Config, Tenant
from relay.dkim.key import Keys
from relay.dkim.sign import Signer, load_signer
from relay.errors import StoreUnavailable
from relay.events import EventLog
from relay.ingress.acceptance import Acceptance
from relay.ingress.admission import Admission
from relay.ingress.mailbox import Mailbox
from relay.ingress.networks.sets import NetworkSets
from relay.ingress.precedence import Guest
from relay.ingress.proof import Judge, Seals
from relay.ingress.returnpath import ReturnPaths
from relay.ingress.secret import Secrets
from relay.ingress.tally import TenantSessions
from relay.net.certificates import Certificates
from relay.net.resolver import Resolver
from relay.policy.policy import Policy
from relay.scan.scanner import Scanner, make_scanners
from relay.smtp.events import ServerSettings
from relay.store.link import Link
from relay.store.queue import Store
from relay.store.quota import Quotas

_CLOSING = 2.0  # seconds for connections to scanners to be closed in


class Door(Protocol):
    """What a session asks its service before it takes a message."""

    stopping: bool

    def find_trouble(self) -> tuple[int, str, str] | None:
        """Return the reply that turns every message away just now, None when all is well."""

    def find_patience(self, session: Guest) -> float:
        """Return how long a session may be silent before its next command, seconds."""

    def may_shake_hands(self, client: str) -> bool:
        """Tell whether a client may have another TLS handshake now; it counts."""

    def reserve(self, octets: int) -> bool:
        """Count memory for a message; False: there is no more."""

    def release(self, octets: int) -> None:
        """Count it no more."""


@dataclass(frozen=True)
class Desk:
    """What all sessions of a process share."""

    config: Config
    settings: ServerSettings
    admission: Admission
    acceptance: Acceptance
    mailbox: Mailbox
    store: Store
    tls: Certificates | None
    door: Door
    return_paths: ReturnPaths | None = None


@dataclass(frozen=True)
class Furniture:
    """A desk, and what has to run beside it."""

    desk: Desk
    networks: NetworkSets
    secrets: Secrets
    scanners: Mapping[str, Scanner]

    async def run(self) -> None:
        """Keep fresh what changes while we run, until cancelled; then close what is open."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.networks.run)
                nursery.start_soon(self.secrets.run)
                if self.desk.return_paths is not None:
                    nursery.start_soon(self.desk.return_paths.run)
        finally:
            with contextlib.suppress(StoreUnavailable):  # it goes first
                self.desk.acceptance.quotas.close()
            with trio.move_on_after(_CLOSING, shield=True):
                for scanner in self.scanners.values():
                    await scanner.aclose()


def furnish(
    config: Config,
    link: Link,
    events: EventLog,
    door: Door,
    *,
    tls: Certificates | None = None,
    resolver: Resolver | None = None,
) -> Furniture:
    """Make what sessions need. ``resolver``: None on a host without name servers.

    Raises StartError for keys and secrets that cannot be used.
    """
    store = Store(link, config)
    networks = NetworkSets(config, resolver, link, events)
    secrets = Secrets(config.tenant)
    admission = Admission(config, networks)
    scanners = make_scanners(config, events)
    acceptance = Acceptance(
        config=config,
        store=store,
        events=events,
        judge=Judge(admission, secrets, Keys(resolver) if resolver else None, Seals()),
        quotas=Quotas(link),
        sessions=TenantSessions(),
        policy=Policy(config, scanners),
        reserve=door.reserve,
        archive=open_archive(config),
        signers=dict(load_signers(config.tenant)),
    )
    desk = Desk(
        config=config,
        settings=make_settings(config),
        admission=admission,
        acceptance=acceptance,
        mailbox=Mailbox(config, store, events),
        store=store,
        tls=tls,
        door=door,
        return_paths=ReturnPaths(resolver) if resolver else None,
    )
    return Furniture(desk, networks, secrets, scanners)


def make_settings(config: Config) -> ServerSettings:
    """Return what the SMTP core needs to know of the configuration."""
    ingress = config.ingress
    return ServerSettings(
        hostname=ingress.hostname,
        max_message=ingress.max_message,
        max_recipients=ingress.max_recipients,
        chunking=ingress.chunking,
        starttls=bool(ingress.tls.certificate),
        tls_required=ingress.tls.required,
        requiretls=ingress.tls.requiretls,
        repair_line_endings=ingress.line_endings == "repair",
    )


def load_signers(tenants: Sequence[Tenant]) -> Iterator[tuple[str, Sequence[Signer]]]:
    """Yield each tenant's name with what signs for it. Raises StartError."""
    for number, tenant in enumerate(tenants):
        path = f"tenant[{number}].dkim"
        yield (
            tenant.name,
            [
                load_signer(
                    key.domain, key.selector, key.key_file, said=f"{path}[{index}].key_file"
                )
                for index, key in enumerate(tenant.dkim)
            ],
        )
