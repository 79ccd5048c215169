"""What is wrong with the sections about reputation: [reputation], [warmup.NAME], [feedback], [checks]."""

from collections.abc import Iterator

from relay.config.schema import Checks, Config, Reputation, Warmup
from relay.config.shapes import DOMAIN, NAME, write_key

_MOST_DAYS = 365


def find_reputation_problems(config: Config) -> Iterator[str]:
    """Yield a line for each problem, with its path."""
    yield from _reputation(config.reputation)
    for name, warmup in config.warmup.items():
        if not NAME.fullmatch(name):
            yield f"warmup.{write_key(name)}: expected a name of letters, digits, _ . -"
        yield from _warmup(f"warmup.{write_key(name)}", warmup)
    for number, source in enumerate(config.source):
        if source.warmup not in ("", "default", *config.warmup):
            known = ", ".join(["default", *map(write_key, config.warmup)])
            yield f"source[{number}].warmup: no [warmup] of that name; there is {known}"
    yield from _feedback(config)
    yield from _checks(config.checks)


def _feedback(config: Config) -> Iterator[str]:
    ours = {domain for tenant in config.tenant for domain in tenant.domains}
    for number, domain in enumerate(config.feedback.domains):
        path = f"feedback.domains[{number}]"
        if not DOMAIN.fullmatch(domain):
            yield f"{path}: expected a domain, got {domain!r}"
        elif domain in ours:
            yield f"{path}: {domain} is a tenant's; complaints need a domain of their own"
    if not 1024 <= config.feedback.max_message <= 16 << 20:
        most = config.feedback.max_message
        yield f"feedback.max_message: expected 1 KiB to 16 MiB, got {most}"


def _checks(checks: Checks) -> Iterator[str]:
    for number, zone in enumerate(checks.dnsbl):
        if not DOMAIN.fullmatch(zone.lower()):
            yield f"checks.dnsbl[{number}]: expected a zone, got {zone!r}"
    if "dnsbl" in checks.gate and not checks.dnsbl:
        yield 'checks.gate: "dnsbl" needs zones in checks.dnsbl'
    if checks.gate and not checks.interval:
        yield "checks.gate: needs an interval"
    if checks.interval and checks.interval < 60:
        yield f"checks.interval: expected 0 or at least 60 seconds, got {checks.interval}"


def _reputation(reputation: Reputation) -> Iterator[str]:
    tenant = reputation.tenant
    shares = {
        name: getattr(tenant, name)
        for name in type(tenant).__struct_fields__
        if name.startswith(("slow_", "hold_")) and name != "slow_to"
    }
    for name, share in (("floor", reputation.floor), *shares.items()):
        if not 0 <= share < 1:
            path = "reputation.floor" if name == "floor" else f"reputation.tenant.{name}"
            yield f"{path}: expected 0 to 1, got {share}"
    for path, value, low in (
        ("reputation.half_life", reputation.half_life, 60),
        ("reputation.tenant.window", tenant.window, 60),
        ("reputation.tenant.at_least", tenant.at_least, 1),
        ("reputation.probes", reputation.probes, 1),
    ):
        if value < low:
            yield f"{path}: expected at least {low}, got {value}"
    if not reputation.quarantine or min(reputation.quarantine) < 1:
        yield "reputation.quarantine: expected at least one duration of a second or more"


def _warmup(path: str, warmup: Warmup) -> Iterator[str]:
    if not 1 <= len(warmup.days) <= _MOST_DAYS:
        yield f"{path}.days: expected 1 to {_MOST_DAYS} numbers, got {len(warmup.days)}"
    elif min(warmup.days) < 1 or list(warmup.days) != sorted(warmup.days):
        yield f"{path}.days: expected numbers above 0 that do not fall"
    if not 0 < warmup.spoilt <= 1:
        yield f"{path}.spoilt: expected a share above 0, up to 1, got {warmup.spoilt}"
    if warmup.idle < 86400:
        yield f"{path}.idle: expected a day or more, got {warmup.idle} seconds"
