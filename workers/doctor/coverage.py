"""Does the SPF record of each tenant's domain let each source pass that its mail may leave from?"""

from collections.abc import Iterator, Sequence
from functools import partial

from relay.config import Config
from relay.config.schema import Source, Tenant
from relay.net.resolver import Resolver
from workers.doctor.finding import Finding, Level
from workers.doctor.spf import Result, Verdict, evaluate
from workers.doctor.together import do_together
from workers.doctor.visible import describe, explain_unknown
from workers.quote import limit

_LEVELS: dict[Result, Level] = {
    "pass": "ok",
    "temperror": "skipped",
    "unknown": "notice",
    # Everything else does not pass. A receiver that wants SPF, or aligns it for DMARC, has nothing.
}


def list_domains(config: Config, source: Source) -> list[str]:
    """Return the domains that send from a source, of all tenants, in their order."""
    return list(
        dict.fromkeys(
            domain
            for tenant in config.tenant
            if any(
                config.pool.get(pool, {}).get(source.name) for pool in _list_pools(config, tenant)
            )
            for domain in tenant.domains
        )
    )


def _list_pools(config: Config, tenant: Tenant) -> Iterator[str]:
    """Yield the tenant's own pool, and those that rules may send its mail to."""
    yield tenant.pool
    for rule in config.rule:
        if rule.pool and (not rule.tenants or tenant.name in rule.tenants):
            yield rule.pool


async def check_coverage(config: Config, source: Source, resolver: Resolver) -> Sequence[Finding]:
    """Evaluate the record of each domain that sends from a source ("spf")."""
    domains = list_domains(config, source)
    if domains and (why := explain_unknown(source)):
        return [Finding("spf", describe(source), "skipped", why, source=source.name)]

    async def check(domain: str) -> Finding:
        return _judge(source, domain, await evaluate(resolver, source.address, domain))

    return await do_together([partial(check, domain) for domain in domains])


def _judge(source: Source, domain: str, verdict: Verdict) -> Finding:
    subject = f"{domain} from {describe(source)}"
    level = _LEVELS.get(verdict.result, "error")
    text = f"{verdict.result}: {limit(verdict.text, 300)}"
    return Finding(
        "spf", subject, level, text, _advise(source, domain, verdict.result), source.name
    )


def _advise(source: Source, domain: str, result: Result) -> str:
    mechanism = f"ip{6 if ':' in source.address else 4}:{source.address}"
    if result == "none":
        return f'publish a TXT record at {domain}: "v=spf1 {mechanism} ... -all"'
    if result == "permerror":
        return "mend the record: to receivers it is as if there were none"
    if result in ("fail", "softfail", "neutral"):
        return f"put {mechanism}, or an include of yours, into the record of {domain}"
    return ""
