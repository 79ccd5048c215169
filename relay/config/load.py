"""Reading the configuration file: TOML to the types of ``relay.config.schema``, with all checks.

Everything that is wrong is reported at once, each problem with the path of its key and what was
expected; nothing listens before this has passed.
"""

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from relay.config.document import check, naming, parse, refuse
from relay.config.policy import Rule
from relay.config.problems import find_problems, find_site_problems
from relay.config.schema import (
    Archive,
    Config,
    Ingress,
    NetworkSet,
    Site,
    Source,
    Tenant,
    TlsReports,
)
from relay.config.section import Section


def load(path: str | None, environment: Mapping[str, str] = os.environ) -> Config:
    """Read the configuration from ``path``, or ``OUTGATE_CONFIG``, or take the defaults.

    Relative paths in the file are relative to the file. Raises ConfigError.
    """
    path = path or environment.get("OUTGATE_CONFIG")
    if path is None:
        return read({}, base=Path(), environment=environment)
    file = Path(path)
    with naming(path):
        document = parse(lambda: file.read_text("utf-8"))
        return read(document, base=file.resolve().parent, environment=environment)


def read(document: dict[str, object], *, base: Path, environment: Mapping[str, str]) -> Config:
    """Check a parsed document and fill in what depends on the machine. Raises ConfigError."""
    config = check(document, Config)
    config = _complete(config, base=base, environment=environment)
    refuse(find_problems(config))
    return config


class _Sites(Section, frozen=True):
    """A file of nothing but sites."""

    site: tuple[Site, ...] = ()


def read_sites(document: dict[str, object]) -> tuple[Site, ...]:
    """Check a parsed document of ``[[site]]`` tables, by the rules of the configuration file.

    Raises ConfigError.
    """
    sites = tuple(map(_normalise, check(document, _Sites).site))
    refuse(find_site_problems(sites))
    return sites


def _complete(config: Config, *, base: Path, environment: Mapping[str, str]) -> Config:
    """Fill in defaults that depend on the machine, and make paths absolute."""

    def absolute(path: str) -> str:
        return str(base / path) if path else ""

    replace = msgspec.structs.replace
    ingress = _complete_ingress(config.ingress, absolute)
    sources = config.source or (Source(name="default", address="0.0.0.0"),)  # noqa: S104
    log = config.log
    if log.events != "stdout":
        log = replace(log, events=absolute(log.events or f"{config.state_dir}/events.jsonl"))
    return replace(
        config,
        state_dir=absolute(config.state_dir),
        store=replace(
            config.store,
            url=config.store.url or environment.get("OUTGATE_STORE_URL", ""),
            password_file=absolute(config.store.password_file),
        ),
        ingress=ingress,
        network=tuple(_complete_network(n, absolute) for n in config.network),
        tenant=tuple(_complete_tenant(t, absolute) for t in config.tenant),
        rule=tuple(map(_complete_rule, config.rule)),
        archive=_complete_archive(config.archive, absolute),
        audit=replace(
            config.audit,
            directory=absolute(config.audit.directory),
            key_file=absolute(config.audit.key_file),
        ),
        source=tuple(
            replace(
                s,
                ehlo=s.ehlo or ingress.hostname,
                proxy_password_file=absolute(s.proxy_password_file),
            )
            for s in sources
        ),
        pool=config.pool or {"default": {s.name: 1 for s in sources}},
        site=tuple(map(_normalise, config.site)),
        route=tuple(replace(r, domains=tuple(d.lower() for d in r.domains)) for r in config.route),
        delivery=replace(config.delivery, ca_file=absolute(config.delivery.ca_file)),
        tls_reports=_complete_reports(config.tls_reports, ingress.hostname, absolute),
        admin=replace(config.admin, token_file=absolute(config.admin.token_file)),
        log=log,
    )


def _complete_ingress(ingress: Ingress, absolute: Callable[[str], str]) -> Ingress:
    replace, tls = msgspec.structs.replace, ingress.tls
    return replace(
        ingress,
        hostname=ingress.hostname or socket.getfqdn(),
        tls=replace(
            tls,
            certificate=absolute(tls.certificate),
            key=absolute(tls.key),
            more=tuple(
                replace(pair, certificate=absolute(pair.certificate), key=absolute(pair.key))
                for pair in tls.more
            ),
        ),
    )


def _complete_reports(
    reports: TlsReports, hostname: str, absolute: Callable[[str], str]
) -> TlsReports:
    sender = reports.sender or f"tls-reports@{hostname}"
    return msgspec.structs.replace(
        reports,
        organization=reports.organization or hostname,
        sender=sender,
        contact=reports.contact or sender,
        dkim_key_file=absolute(reports.dkim_key_file),
    )


def _complete_tenant(tenant: Tenant, absolute: Callable[[str], str]) -> Tenant:
    replace = msgspec.structs.replace
    return replace(
        tenant,
        domains=tuple(d.lower() for d in tenant.domains),
        header_secret_file=absolute(tenant.header_secret_file),
        dkim=tuple(
            replace(key, domain=key.domain.lower(), key_file=absolute(key.key_file))
            for key in tenant.dkim
        ),
        priority_rule=tuple(
            replace(rule, senders=tuple(s.lower() for s in rule.senders))
            for rule in tenant.priority_rule
        ),
    )


def _complete_network(network: NetworkSet, absolute: Callable[[str], str]) -> NetworkSet:
    place = network.json
    return msgspec.structs.replace(
        network,
        spf=network.spf.lower().rstrip("."),
        json=place if place.startswith("https://") else absolute(place),
    )


def _complete_rule(rule: Rule) -> Rule:
    return msgspec.structs.replace(
        rule,
        senders=tuple(s.lower() for s in rule.senders),
        recipient_domains=tuple(d.lower() for d in rule.recipient_domains),
        attachment_names=tuple(n.lower() for n in rule.attachment_names),
        attachment_types=tuple(t.lower() for t in rule.attachment_types),
        results=tuple(r.lower() for r in rule.results),
    )


def _complete_archive(archive: Archive, absolute: Callable[[str], str]) -> Archive:
    replace = msgspec.structs.replace
    return replace(
        archive,
        directory=absolute(archive.directory),
        key_file=absolute(archive.key_file),
        s3=replace(archive.s3, credentials_file=absolute(archive.s3.credentials_file)),
    )


def _normalise(site: Site) -> Site:
    return msgspec.structs.replace(
        site,
        mx=tuple(m.lower().rstrip(".") for m in site.mx),
        domains=tuple(d.lower() for d in site.domains),
    )
