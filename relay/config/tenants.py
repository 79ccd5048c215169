"""What is wrong with the tenants of a configuration, and the networks that they name."""

from collections.abc import Iterator
from pathlib import Path

from relay.config.schema import Config, NetworkSet, Tenant
from relay.config.shapes import DOMAIN, FIELD, check_files, check_name, check_senders, is_file
from relay.config.units import parse_network

# Sets of networks that need no [[network]]; relay/ingress/networks has what is in them.
BUILT_IN = ("google", "google-forwarding")
LEAST_SECRET = 16  # octets


def find_tenant_problems(config: Config) -> Iterator[str]:
    """Yield what the types cannot say of ``[[network]]`` and ``[[tenant]]``."""
    yield from _network_problems(config.network)
    sets = {*BUILT_IN, *(network.name for network in config.network)}
    owners: dict[str, str] = {}
    names: set[str] = set()
    for number, tenant in enumerate(config.tenant):
        path = f"tenant[{number}]"
        yield from check_name(path, tenant.name, names)
        if not tenant.domains:
            yield f"{path}.domains: expected at least one domain"
        for domain in tenant.domains:
            if not DOMAIN.fullmatch(domain):
                yield f"{path}.domains: expected a domain (in A-labels), got {domain!r}"
            elif owners.setdefault(domain, tenant.name) != tenant.name:
                yield f"{path}.domains: {domain} belongs to tenant {owners[domain]!r} already"
        for network in tenant.networks:
            if network not in sets:
                yield from _check_network(f"{path}.networks", network, sets)
        yield from _proof_problems(path, tenant)
        yield from _limit_problems(path, tenant)
        yield from _priority_problems(path, tenant)
        if tenant.pool not in config.pool:
            yield f"{path}.pool: no [pool.{tenant.pool}]; there is {', '.join(config.pool)}"


def _network_problems(networks: tuple[NetworkSet, ...]) -> Iterator[str]:
    names: set[str] = set()
    for number, network in enumerate(networks):
        path = f"network[{number}]"
        yield from check_name(path, network.name, names)
        if bool(network.spf) == bool(network.json):
            yield f"{path}: expected one of spf and json"
        if network.spf and not DOMAIN.fullmatch(network.spf):
            yield f"{path}.spf: expected a domain with an SPF record, got {network.spf!r}"
        if network.json and not network.json.startswith("https://"):
            if "://" in network.json:
                yield f"{path}.json: expected a file or an https:// address, got {network.json!r}"
            yield from check_files(path, json=network.json)
        if not 60 <= network.refresh <= 86_400:
            yield f"{path}.refresh: expected 60 to 86400 seconds, got {network.refresh}"


def _check_network(path: str, network: str, sets: set[str]) -> Iterator[str]:
    try:
        parse_network(network)
    except ValueError:
        known = ", ".join(f'"{name}"' for name in sorted(sets))
        yield (
            f'{path}: expected a network such as "192.0.2.0/24", or the name of a set ({known}), '
            f"got {network!r}"
        )


def _proof_problems(path: str, tenant: Tenant) -> Iterator[str]:
    if tenant.header and not FIELD.fullmatch(tenant.header):
        yield f"{path}.header: expected the name of a header field, got {tenant.header!r}"
    if "header" in tenant.proof:
        if not tenant.header:
            yield f"{path}.header: missing; proof by a secret header needs the name of the field"
        if not tenant.header_secret_file:
            yield f"{path}.header_secret_file: missing; proof by a secret header needs the secret"
    yield from check_files(path, header_secret_file=tenant.header_secret_file)
    yield from _secret_problems(path, tenant.header_secret_file)
    for number, key in enumerate(tenant.dkim):
        here = f"{path}.dkim[{number}]"
        for name, value in (("domain", key.domain), ("selector", key.selector)):
            if not DOMAIN.fullmatch(value):
                yield f"{here}.{name}: expected a name in the DNS, got {value!r}"
        if not any(key.domain == d or key.domain.endswith(f".{d}") for d in tenant.domains):
            yield f"{here}.domain: expected one of the tenant's domains, got {key.domain!r}"
        yield from check_files(here, key_file=key.key_file)


def _secret_problems(path: str, file: str) -> Iterator[str]:
    """A secret that can be guessed proves nothing. What it is must not be said here."""
    if not file or not is_file(file):
        return
    try:
        secrets = Path(file).read_bytes().split()
    except OSError as error:
        yield f"{path}.header_secret_file: cannot be read: {error.strerror}"
        return
    if not secrets or any(len(secret) < LEAST_SECRET for secret in secrets):
        yield (
            f"{path}.header_secret_file: expected a secret a line, of at least {LEAST_SECRET} "
            "characters without blanks; `openssl rand -hex 24` makes one"
        )


def _limit_problems(path: str, tenant: Tenant) -> Iterator[str]:
    for name, value, least in (
        ("max_message", tenant.max_message, 1024),
        ("max_recipients", tenant.max_recipients, 1),
        ("connections", tenant.connections, 1),
    ):
        if value is not None and value < least:
            yield f"{path}.{name}: expected at least {least}, got {value}"


def _priority_problems(path: str, tenant: Tenant) -> Iterator[str]:
    name = tenant.priority_header
    if name and not FIELD.fullmatch(name):
        yield f"{path}.priority_header: expected the name of a header field, got {name!r}"
    for number, rule in enumerate(tenant.priority_rule):
        here = f"{path}.priority_rule[{number}].senders"
        if not rule.senders:
            yield f"{here}: expected at least one sender"
        yield from check_senders(here, rule.senders)


def find_tenant_notices(config: Config) -> Iterator[str]:
    """Yield what is allowed of tenants but probably not meant."""
    for tenant in config.tenant:
        if not tenant.proof and any(name in tenant.networks for name in BUILT_IN):
            yield (
                f"tenant {tenant.name}: everybody's Google Workspace sends from Google's networks; "
                "without further proof any of them can send as this tenant's domains: set proof to "
                '["dkim"], ["header"] or both'
            )
        if "google-forwarding" in tenant.networks:
            yield (
                f"tenant {tenant.name}: google-forwarding is mail that Google forwards without "
                "having verified who sent it"
            )
        if tenant.header and "header" not in tenant.proof:
            yield (
                f"tenant {tenant.name}: {tenant.header} is taken off, its value is not checked; "
                'that needs "header" in proof'
            )
        if "header" in tenant.proof and not config.ingress.tls.required:
            yield (
                f"tenant {tenant.name}: its secret header can come in clear, and whoever reads it on "
                "the way can send as this tenant: set ingress.tls.required"
            )
        if "dkim" in tenant.proof and tenant.dkim_fallback:
            yield from _fallback_notices(tenant)


def _fallback_notices(tenant: Tenant) -> Iterator[str]:
    """Google writes a domain's dots as hyphens: of acme.co.uk and acme-co.uk it makes one name."""
    for domain in tenant.domains:
        written = domain.replace(".", "-")
        if written.count("-") > 1:
            yield (
                f"tenant {tenant.name}: {written}.DATE.gappssmtp.com, which counts as {domain}, is "
                "Google's name for other domains, too, whose dots and hyphens stand otherwise: whoever "
                f"has one of them can sign for it. Have Google sign with a key of {domain} and set "
                "dkim_fallback to false"
            )
