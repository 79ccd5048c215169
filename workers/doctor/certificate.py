"""The certificate of the ingress: the files, and what a sender sees that comes now.

The files say what a start would load; a running ingress may show something else, because it keeps a
good pair when bad files take its place, or because nobody has told it of new ones.
"""

import datetime as dt
import ipaddress
from collections.abc import Sequence

import trio

from relay.config import Config, Endpoint
from relay.errors import CertificateRefused, NetworkError, StartError
from relay.net.certificates import Certificate, list_pairs, load_pair
from relay.net.connect import connect
from workers.doctor.finding import Finding, Level
from workers.hosts import is_address
from workers.tls.pkix import covers
from workers.tls.probe import Check, choose_address, probe

_PATIENCE = 5.0  # s, for the first connection to ourselves
_RENEW = "renew it: senders that verify it keep their mail, or return it"
_LEVELS: dict[str, Level] = {
    "ok": "ok", "warning": "warning", "failed": "error", "skipped": "skipped"
}  # fmt: skip


async def check_certificate(config: Config) -> Sequence[Finding]:
    """Check the files, and, where an ingress answers on this machine, what it shows ("certificate")."""
    pairs = list_pairs(config.ingress.tls)
    if not pairs:
        text = "none, so STARTTLS is not offered: senders that demand TLS keep their mail"
        advice = "name certificate and key in [ingress.tls]"
        return [Finding("certificate", "ingress.tls", "warning", text, advice)]
    found: list[Finding] = []
    loaded: list[Certificate] = []
    for pair in pairs:
        try:
            loaded.append((await trio.to_thread.run_sync(load_pair, pair)).certificate)
        except CertificateRefused as error:
            found.append(Finding("certificate", pair.place, "error", str(error)))
    now = dt.datetime.now(dt.UTC)
    found += [_check_validity(one, now) for one in loaded]
    if loaded:
        found.append(_check_names(loaded, config.ingress.hostname))
    return [*found, *(await _check_shown(config))]


def _check_validity(certificate: Certificate, now: dt.datetime) -> Finding:
    place, text = certificate.pair.place, certificate.describe(now)
    if certificate.find_fault(now):
        return Finding("certificate", place, "error", text, _RENEW)
    if certificate.ends_soon(now):
        return Finding("certificate", place, "warning", text, _RENEW)
    return Finding("certificate", place, "ok", text)


def _check_names(certificates: Sequence[Certificate], hostname: str) -> Finding:
    """Google holds the name of a route against the certificate, if it is told to."""
    if any(covers(pattern, hostname) for one in certificates for pattern in one.names):
        return Finding("certificate", hostname, "ok", "the host's name is in the certificate")
    text = "no certificate is for ingress.hostname"
    advice = f"get one for {hostname}, or set ingress.hostname to the name that senders use"
    return Finding("certificate", hostname, "warning", text, advice)


# -- what is shown


async def _check_shown(config: Config) -> Sequence[Finding]:
    """Try STARTTLS with our own ingress, as strict senders do."""
    place = _find_place(config.ingress.listen[0])
    try:
        with trio.fail_after(_PATIENCE):
            source = choose_address(config.source[0], place.host)
            (await connect(place.host, place.port, source=source)).close()
    except (NetworkError, trio.TooSlowError):
        text = "nobody listens there, so what senders see is not known: does an ingress run here?"
        return [Finding("certificate", str(place), "skipped", text)]
    try:
        probed = await probe(config, place.host, place.port, name=config.ingress.hostname)
    except StartError as error:
        return [Finding("certificate", str(place), "skipped", str(error))]
    if any(one.name == "connection" and one.state == "failed" for one in probed.checks):
        text = "whoever listens there holds no conversation with us (ingress.proxies?)"
        return [Finding("certificate", str(place), "skipped", text)]
    return [_translate(one, place) for one in probed.checks if one.name != "connection"]


def _find_place(listen: Endpoint) -> Endpoint:
    """Return where to knock: an address to listen on may stand for all of this machine's."""
    if not is_address(listen.host):
        return Endpoint("127.0.0.1", listen.port)
    address = ipaddress.ip_address(listen.host)
    if address.is_unspecified:
        return Endpoint("::1" if address.version == 6 else "127.0.0.1", listen.port)
    return listen


def _translate(check: Check, place: Endpoint) -> Finding:
    level = _LEVELS[check.state]
    if check.name in ("chain", "name") and level == "error":
        level = "warning"  # for those who verify; most senders do not
    return Finding("certificate", f"{place} {check.name}", level, check.text, check.advice)
