"""What mail to a domain can expect, in types for programs and in words for people.

forecast.py finds it out.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

from relay.config.schema import TlsLevel
from relay.model import Disposition, Outcome
from relay.net.resolver import Tlsa
from workers.route import Path
from workers.tls.dane import find_usable
from workers.tls.guard import Failing, Guard, Policy
from workers.tls.probe import Session
from workers.tls.sts import Mode

MAX_RECORDS = 20  # of a stranger's, of one type, that are shown

Verdict = Literal["goes", "waits", "bounces"]


class Sts(msgspec.Struct, frozen=True):
    """A domain's MTA-STS policy. ``trouble``: why it could not be had although there is one."""

    announced: bool
    mode: Mode | Literal[""] = ""
    id: str = ""
    mx: tuple[str, ...] = ()
    max_age: int = 0
    trouble: str = ""


class MxView(msgspec.Struct, frozen=True):
    """One MX record; ``name``: "" for the root."""

    preference: int
    name: str


class Record(msgspec.Struct, frozen=True):
    """One TLSA record. ``why``: why it cannot be used; "": it can."""

    text: str
    usable: bool
    why: str


class HostView(msgspec.Struct, frozen=True):
    """One host. ``left_out``: why it is not tried; then nothing is demanded of it."""

    name: str
    preference: int | None
    port: int
    addresses: tuple[str, ...] = ()
    addresses_secure: bool = False
    tlsa: tuple[Record, ...] = ()
    tlsa_text: str = ""  # why DANE does not count here; "": it does
    policy: Policy | Literal[""] = ""
    level: TlsLevel | Literal[""] = ""
    demand: str = ""
    left_out: str = ""
    failing: Failing = ""
    session: Session | None = None


class Forecast(msgspec.Struct, frozen=True):
    """The whole decision. ``text``: what would happen to a message now, and why."""

    domain: str
    verdict: Verdict
    text: str
    origin: Literal["", "route", "mx", "implicit"]  # of the hosts; "": there are none
    mx: tuple[MxView, ...]
    secure: bool  # their names are validated, or configured
    nameservers: tuple[str, ...]
    trusted: bool  # the name servers' word, that they have validated an answer
    site: str
    level: TlsLevel | Literal[""]
    sts: Sts | None  # None: not asked
    reports: tuple[str, ...]
    hosts: tuple[HostView, ...]


def describe_record(record: Tlsa) -> Record:
    """Quote a TLSA record, and say whether it can be used."""
    text = f"{record.usage} {record.selector} {record.matching} {record.data[:1024].hex()}"
    if find_usable((record,)):
        return Record(text, True, "")
    if record.usage not in (2, 3):
        why = f"usage {record.usage} is none for SMTP"  # RFC 7672 §3.1.3
    elif record.selector > 1 or record.matching > 2:
        why = "nobody knows its selector or matching type"
    else:
        why = "its data is malformed"
    return Record(text, False, why)


def describe_guard(guard: Guard) -> str:
    """Say what a host must show, and who demands it."""
    testing = "; its MTA-STS policy is in testing" if guard.tested else ""
    if guard.tested == "unnamed":
        testing += ", and does not name this host"
    match guard.policy, guard.level:
        case "dane", "verify":
            text = "DANE: TLS, and a certificate that its TLSA records name"
        case "dane", _:
            text = "DANE: TLS with any certificate, as none of its TLSA records can be used"
        case "sts", _:
            text = "MTA-STS: TLS, and a trusted authority's certificate for this name"
        case "rule", _:
            text = "[[rule]] tls: TLS, and a trusted authority's certificate for this name"
        case _, "verify":
            text = "[[site]] tls: TLS, and a trusted authority's certificate for this name"
        case _, "require":
            text = "[[site]] tls: TLS with any certificate"
        case _, "none":
            text = "[[site]] tls: no TLS"
        case _:
            text = "nobody demands anything: TLS if it is offered, with any certificate"
    return text + testing


VERIFIERS = {
    "dane-ee": "DANE-EE",
    "dane-ta": "DANE-TA",
    "pkix": "an authority that we trust",
}


def conclude(
    found: Path | Outcome, hosts: Iterable[HostView], downgrade: str
) -> tuple[Verdict, str]:
    """Say in one sentence what would happen."""
    if isinstance(found, Outcome):
        code = " ".join(filter(None, (str(found.code or ""), found.status)))
        if found.disposition is Disposition.BOUNCED:
            return "bounces", f"comes back to its sender: {found.text} ({code})"
        return "waits", f"waits: {found.text} ({code})"
    failed: list[str] = []
    for host in hosts:
        if host.left_out:
            continue
        if host.session is None:
            return "goes", f"would go to {host.name}, if that is as demanded: {host.demand}"
        if host.session.state != "failed":
            text = f"goes to {host.name} {_describe_session(host, host.session, downgrade)}"
            return "goes", "; not to ".join([text, *failed])
        failed.append(f"{host.name}: {host.session.text}")
    return "waits", f"waits: no host can be used: {'; '.join(failed)}"


def _describe_session(host: HostView, session: Session, downgrade: str) -> str:
    version = session.protocol.partition(" ")[0].replace("TLSv", "TLS ")
    if session.state == "verified":
        return f"over {version}, verified by {VERIFIERS[session.verified]}"
    if session.state == "unverified":
        return f"over {version}, not verified, which nobody demands: {session.text}"
    text = f"in clear, as nobody demands TLS: {session.text}"
    if host.level != "opportunistic":
        return text
    if downgrade == "refuse":
        return f"{text} (waits if workers have seen validated TLS there lately: tls.downgrade)"
    return f"{text} (reported if workers have seen validated TLS there lately: tls.downgrade)"
