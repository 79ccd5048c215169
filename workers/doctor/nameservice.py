"""The resolver: does it answer, does it validate, and do we believe it?

The question is for the root's SOA record, with the AD bit set (RFC 6840 §5.7): the root is signed, so
a resolver that validates says so in its answer. Asked of each name server by itself, because one that
is dead or does not validate hides behind the others.
"""

from collections.abc import Sequence
from functools import partial

import msgspec

from relay.config import Config, Endpoint
from relay.config.schema import Dns
from relay.errors import ConfigError, StartError
from relay.net.resolver import NameNotFound, NameUnavailable, Resolver
from workers.doctor.finding import Finding
from workers.doctor.together import do_together

_OWN = 'run a validating resolver on this host (unbound), with [dns] nameservers = ["127.0.0.1:53"]'


async def check_resolver(config: Config) -> Sequence[Finding]:
    """Check each name server ("resolver"): without any, that is the finding."""
    try:
        resolver = Resolver(config.dns)
    except (StartError, ConfigError) as error:
        return [Finding("resolver", "dns", "error", str(error))]
    if not config.dns.nameservers:
        subject = ", ".join(resolver.nameservers)
        return [await _check(config, config.dns, subject, believed=resolver.is_trusted)]
    return await do_together(
        [
            partial(_check_one, config, endpoint, believed=resolver.is_trusted)
            for endpoint in config.dns.nameservers
        ]
    )


async def _check_one(config: Config, endpoint: Endpoint, *, believed: bool) -> Finding:
    alone = msgspec.structs.replace(config.dns, nameservers=(endpoint,))
    return await _check(config, alone, str(endpoint), believed=believed)


async def _check(config: Config, dns: Dns, subject: str, *, believed: bool) -> Finding:
    # What we would make of the AD bit is another question than whether it is there.
    listening = Resolver(msgspec.structs.replace(dns, trust_ad=True))
    try:
        found = await listening.find_authority("")
    except NameUnavailable as error:
        advice = "does it run, and answer this machine? See dns.nameservers, or /etc/resolv.conf"
        return Finding("resolver", subject, "error", str(error).removeprefix(": "), advice)
    except NameNotFound:
        found = None
    if found is None or not found.records:
        text = "answers, but knows no root: whether it validates cannot be told"
        return Finding("resolver", subject, "skipped", text)
    return _judge(config, subject, validates=found.secure, believed=believed)


def _judge(config: Config, subject: str, *, validates: bool, believed: bool) -> Finding:
    if validates and believed:
        text = "answers and validates (DNSSEC), and is believed"
        if config.dns.trust_ad and not Resolver(_forget_trust(config.dns)).is_trusted:
            text += "; dns.trust_ad says so: anybody on the way to it could set the bit"
            return Finding("resolver", subject, "notice", text, _OWN)
        return Finding("resolver", subject, "ok", text)
    if not config.tls.dane:
        text = "answers; " + ("validates" if validates else "does not validate")
        return Finding("resolver", subject, "ok", f"{text} (tls.dane is off)")
    if validates:
        text = "answers and validates, and is not believed, as it is not on this host: no DANE"
        advice = f"{_OWN}; or say dns.trust_ad = true, if the way to it is safe"
        return Finding("resolver", subject, "notice", text, advice)
    if believed:
        text = "answers and does not validate (DNSSEC), so DANE is never applied"
        return Finding("resolver", subject, "warning", text, "let it validate, or say dane = false")
    text = "answers, does not validate, and would not be believed: no DANE"
    return Finding("resolver", subject, "notice", text, _OWN)


def _forget_trust(dns: Dns) -> Dns:
    return msgspec.structs.replace(dns, trust_ad=None)
