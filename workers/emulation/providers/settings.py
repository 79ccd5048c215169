"""The providers' file: ``[[provider]]`` tables, a seed, and where complaints go.

It is read as the configuration is: everything that is wrong is reported at once, with its path.
"""

import difflib
import importlib.resources
import ipaddress
from collections.abc import Iterator
from pathlib import Path

import msgspec

from relay.config.document import check, naming, parse, refuse
from relay.config.section import Section
from relay.config.shapes import DOMAIN
from relay.config.units import Endpoint
from relay.errors import ConfigError
from workers.emulation.providers.profile import Profile
from workers.emulation.providers.wording import load_styles

_DEFAULT = "workers/emulation/providers/default.toml"
_MOST_OCTETS = 1 << 20  # of the file
_MOST_PROVIDERS = 1000
_MOST_FACTOR = 1000.0


class Feedback(Section, frozen=True):
    """Where complaints go, as ARF, over SMTP."""

    address: str  # the mailbox that takes them
    host: Endpoint  # ... and the server that takes them for it
    sender: str = ""  # default: complaints@ the provider's first domain


class Settings(Section, frozen=True):
    """The whole file."""

    provider: tuple[Profile, ...] = ()
    seed: int = 1
    feedback: Feedback | None = None


def load_settings(path: str | None) -> Settings:
    """Read the file at ``path``, or the one that comes with the program. Raises ConfigError."""
    with naming(path or _DEFAULT):
        return read_settings(parse(lambda: _read_text(path)))


def _read_text(path: str | None) -> str:
    if path is None:
        place = importlib.resources.files("workers.emulation.providers")
        return place.joinpath("default.toml").read_text("utf-8")
    with Path(path).open("rb") as file:
        octets = file.read(_MOST_OCTETS + 1)
    if len(octets) > _MOST_OCTETS:
        raise ConfigError([f"expected a file of at most {_MOST_OCTETS} octets"])
    return octets.decode("utf-8")


def read_settings(document: dict[str, object]) -> Settings:
    """Check a parsed document. Raises ConfigError."""
    settings = check(document, Settings)
    settings = msgspec.structs.replace(settings, provider=tuple(map(_normalise, settings.provider)))
    refuse(_find_problems(settings))
    return settings


def _normalise(profile: Profile) -> Profile:
    """Domains are compared in lower case."""
    complaints = profile.complaints
    lower = {domain.lower(): share for domain, share in complaints.senders.items()}
    return msgspec.structs.replace(
        profile,
        domains=tuple(domain.lower() for domain in profile.domains),
        complaints=msgspec.structs.replace(complaints, senders=lower),
    )


def _find_problems(settings: Settings) -> Iterator[str]:
    if not 1 <= len(settings.provider) <= _MOST_PROVIDERS:
        yield f"provider: expected 1 to {_MOST_PROVIDERS} tables headed [[provider]]"
    names: dict[str, str] = {}
    domains: dict[str, str] = {}
    ports: dict[str, str] = {}
    for number, profile in enumerate(settings.provider):
        path = f"provider[{number}]"
        yield from _twice(names, profile.name, f"{path}.name")
        for domain in profile.domains:
            yield from _twice(domains, domain, f"{path}.domains")
            if not DOMAIN.fullmatch(domain):
                yield f"{path}.domains: expected a domain, got {domain!r}"
        if profile.listen is not None and profile.listen.port:
            yield from _twice(ports, str(profile.listen), f"{path}.listen")
        yield from _check_profile(path, profile)
    if settings.feedback is not None:
        yield from _check_feedback(settings.feedback)


def _twice(seen: dict[str, str], name: str, path: str) -> Iterator[str]:
    if name in seen:
        yield f"{path}: {name} is already {seen[name]}"
    seen.setdefault(name, path)


def _check_profile(path: str, profile: Profile) -> Iterator[str]:
    if not DOMAIN.fullmatch(profile.name.lower()):
        yield f"{path}.name: expected letters, digits, hyphens and dots, got {profile.name!r}"
    if profile.style not in load_styles():
        close = difflib.get_close_matches(profile.style, load_styles(), n=1)
        meant = f"; did you mean {close[0]}?" if close else ""
        yield f"{path}.style: expected {', '.join(sorted(load_styles()))}{meant}"
    if profile.listen is not None and not is_loopback(profile.listen.host):
        yield (
            f"{path}.listen: expected an address of this machine for itself (127.0.0.0/8, ::1), "
            f"got {profile.listen.host}"
        )
    yield from _check_shares(path, profile)
    yield from _check_counts(path, profile)
    yield from _check_patience(path, profile)
    yield from _check_allowance(path, profile)
    for number, blocked in enumerate(profile.blocked):
        yield from _check_address(f"{path}.blocked[{number}].address", blocked.address)


def is_loopback(host: str) -> bool:
    """Say whether an address is this machine's for itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_shares(path: str, profile: Profile) -> Iterator[str]:
    shares = {
        "unknown": profile.unknown,
        "spam": profile.spam,
        "block.complaint_share": profile.block.complaint_share,
        "complaints.share": profile.complaints.share,
    }
    senders = profile.complaints.senders
    shares |= {f'complaints.senders."{domain}"': share for domain, share in senders.items()}
    for name, share in shares.items():
        if not 0 <= share <= 1:
            yield f"{path}.{name}: expected a share from 0 to 1, got {share}"


def _check_counts(path: str, profile: Profile) -> Iterator[str]:
    counts = {
        name: getattr(profile, name)
        for name in ("connections", "messages_per_connection", "recipients_per_message")
    }
    counts |= {"block.after": profile.block.after}
    for number, change in enumerate(profile.changes):
        for name in ("connections", "messages_per_connection"):
            counts[f"changes[{number}].{name}"] = getattr(change, name) or 0
    for name, count in counts.items():
        if count < 0:
            yield f"{path}.{name}: expected 0 (none) or more, got {count}"


def _check_patience(path: str, profile: Profile) -> Iterator[str]:
    escalation, block = profile.escalation, profile.block
    if block.after and escalation is None:
        yield f"{path}.block.after: counts attempts within penalties; add [provider.escalation]"
    factors = {"block.factor": block.factor}
    if escalation is not None:
        factors["escalation.factor"] = escalation.factor
        if not escalation.penalty:
            yield f"{path}.escalation.penalty: expected more than 0 seconds"
        if escalation.maximum < escalation.penalty:
            yield f"{path}.escalation.maximum: expected at least the penalty"
    for name, factor in factors.items():
        if not 1 <= factor <= _MOST_FACTOR:
            yield f"{path}.{name}: expected 1 to {_MOST_FACTOR:g}, got {factor}"
    if not block.lasts or block.maximum < block.lasts:
        yield f"{path}.block.maximum: expected at least block.lasts, and both more than 0"
    if block.at_least < 1:
        yield f"{path}.block.at_least: expected at least 1, got {block.at_least}"


def _check_allowance(path: str, profile: Profile) -> Iterator[str]:
    rules = profile.allowance
    if rules is None:
        return
    path += ".allowance"
    if not 1 <= rules.first <= rules.maximum:
        yield f"{path}: expected first to be 1 or more, and maximum not less"
    if not 1 <= rules.growth <= _MOST_FACTOR:
        yield f"{path}.growth: expected 1 to {_MOST_FACTOR:g}, got {rules.growth}"
    for name in ("shrink", "used", "spoilt"):
        if not 0 <= getattr(rules, name) <= 1:
            yield f"{path}.{name}: expected a share from 0 to 1, got {getattr(rules, name)}"
    for number, address in enumerate(rules.known):
        yield from _check_address(f"{path}.known[{number}]", address)


def _check_address(path: str, address: str) -> Iterator[str]:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        yield f"{path}: expected an IP address, got {address!r}"


def _check_feedback(feedback: Feedback) -> Iterator[str]:
    for name, address in (("address", feedback.address), ("sender", feedback.sender)):
        local, at, domain = address.rpartition("@")
        plain = local.isascii() and local.isprintable() and not set(local) & set('<>" ')
        if address and not (at and local and plain and DOMAIN.fullmatch(domain.lower())):
            yield f"feedback.{name}: expected a mailbox such as fbl@feedback.example"
    if not feedback.address:
        yield "feedback.address: missing"
    if not is_loopback(feedback.host.host) or not feedback.host.port:
        yield "feedback.host: expected an address of this machine for itself, and a port"
