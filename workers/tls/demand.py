"""Who demands what of the hosts of a domain, strongest first.

1. the receiver's zone: DANE for SMTP (RFC 7672), host by host;
2. the receiver's policy: MTA-STS (RFC 8461), for hosts without DANE (§2 there);
3. the operator: the level of the site;
4. nobody: TLS where it is offered, whatever the certificate (RFC 7435).

A site whose level is "none" is the operator's word that TLS with it does not work: nothing is
demanded. The sender of a message can demand more than all of them (REQUIRETLS), or ask that 1 and 2 be
passed over for it (TLS-Required: No; RFC 8689). A rule of ours can demand that the certificate holds,
whatever the site says.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import trio

from relay.config.schema import TlsLevel
from relay.net.resolver import Found, NameUnavailable, Resolver, Tlsa
from workers.tls.dane import find_usable
from workers.tls.guard import OPPORTUNISTIC, Failing, Guard
from workers.tls.sts import StsPolicy

_TA = 2  # RFC 7218 §2.1: DANE-TA


@dataclass(frozen=True, slots=True)
class Wish:
    """What is known before the hosts are looked at."""

    domain: str
    level: TlsLevel  # of the site
    asked: str = ""  # by the message: "required", "optional"; for it, by a rule: "verified"
    secure: bool = False  # the hosts' names are validated: by DNSSEC, or they are configured
    sts: StsPolicy | None = None


@dataclass(frozen=True, slots=True)
class Unfit:
    """Why a host is not to be used."""

    failing: Failing
    text: str
    status: str = "4.7.5"  # RFC 3463 §3.8: a cryptographic failure; its owner may repair it


@dataclass(slots=True)
class Demands:
    """What is demanded of each host, or why it is left out."""

    guards: dict[str, Guard] = field(default_factory=dict)
    unfit: dict[str, Unfit] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """A short name, another for all that demands something else.

        Sessions are kept under it: mail that demands less must not leave one behind for mail that
        demands more.
        """
        kinds = sorted(
            {f"{g.policy}:{g.level}:{g.requiretls:d}{g.tested}" for g in self.guards.values()}
        )
        records = sorted(
            (name, *_list_names(guard), *guard.tlsa)
            for name, guard in self.guards.items()
            if guard.tlsa
        )
        if records:
            kinds.append(hashlib.blake2b(repr(records).encode(), digest_size=8).hexdigest())
        return "+".join(kinds)


def _list_names(guard: Guard) -> tuple[str, ...]:
    """Return the names that count. With usage 3 none do: hosts of many domains share sessions then."""
    return guard.names if any(record.usage == _TA for record in guard.tlsa) else ()


async def demand(
    wish: Wish,
    hosts: Mapping[str, Found[str]],
    ports: Mapping[str, int],
    *,
    resolver: Resolver | None,
) -> Demands:
    """Decide for each host of a domain; ``hosts``: their addresses. ``resolver``: None without DANE.

    DANE records of all hosts are asked for at once. Raises nothing: a zone that cannot be asked makes
    a host unfit (RFC 7672 §2.1.3).
    """
    demands = Demands()

    async def decide(name: str, addresses: Found[str]) -> None:
        made = await _decide(wish, name, addresses, resolver, ports[name])
        if isinstance(made, Guard):
            demands.guards[name] = made
        else:
            demands.unfit[name] = made

    async with trio.open_nursery() as nursery:
        for name, addresses in hosts.items():
            nursery.start_soon(decide, name, addresses)
    return demands


async def _decide(
    wish: Wish, name: str, addresses: Found[str], resolver: Resolver | None, port: int
) -> Guard | Unfit:
    if wish.level == "none" and wish.asked not in ("required", "verified"):
        return Guard("none", "none")
    if wish.asked != "optional":
        if resolver is not None and wish.secure:
            found = await _ask_zone(wish, name, addresses, resolver, port)
            if found is not None:
                return found
        if wish.sts is not None and wish.sts.mode == "enforce":
            return _ask_policy(wish, name, wish.sts)
    if wish.asked == "required":
        return _require(wish)
    if wish.asked == "verified":
        return _ask_rule()
    return _ask_site(wish, name)


async def _ask_zone(
    wish: Wish, name: str, addresses: Found[str], resolver: Resolver, port: int
) -> Guard | Unfit | None:
    """DANE. None: the host has no records."""
    try:
        for base in await _find_bases(name, addresses, resolver):
            found = await resolver.find_tlsa(f"_{port}._tcp.{base}")
            if found.secure and found.records:
                return _make_dane_guard(wish, base, name, found.records)
    except NameUnavailable as error:
        # RFC 7672 §2.1.3: whoever suppresses the records must not get the mail.
        text = f"{name}: its TLSA records cannot be had, so it gets no mail (DANE): {error}"
        return Unfit("dnssec-invalid", text)
    return None


async def _find_bases(name: str, addresses: Found[str], resolver: Resolver) -> tuple[str, ...]:
    """Return the names that a host's records may stand at, in order. Raises NameUnavailable."""
    if addresses.secure:
        # RFC 7672 §2.2.2: where the host is an alias, the records of its real name come first.
        return tuple(dict.fromkeys((addresses.name, name)))
    # §2.2.1: names and addresses must be secure, or whoever could forge them could make up a host
    # with records of its own. §2.2.2: but an alias that is itself secure, and leads to where
    # nothing is, keeps the records of its first name; the key counts, and not where it is found.
    if addresses.name == name:
        return ()
    alias = await resolver.find_alias(name)
    return (name,) if alias.secure and alias.records else ()


def _make_dane_guard(wish: Wish, base: str, name: str, records: tuple[Tlsa, ...]) -> Guard | Unfit:
    requiretls = wish.asked == "required"
    usable = find_usable(records)
    if not usable and requiretls:
        return _require(wish)
    if not usable and wish.asked == "verified":
        return _ask_rule()
    if not usable:
        # §2.2: records that nobody can use still say that the host has TLS.
        return Guard("dane", "require", (base,))
    # §3.2.2: names that a certificate below a trust anchor of the zone may bear.
    names = tuple(dict.fromkeys((base, name, wish.domain)))
    return Guard("dane", "verify", names, usable, requiretls=requiretls)


def _ask_policy(wish: Wish, name: str, policy: StsPolicy) -> Guard | Unfit:
    """MTA-STS in force: what the policy does not name gets nothing (RFC 8461 §4.1, §5)."""
    if not policy.matches(name):
        text = (
            f"{name} is not in the MTA-STS policy of {wish.domain} ({', '.join(policy.mx[:3])}), "
            "so mail waits until its owner has mended the policy or the MX records"
        )
        return Unfit("validation-failure", text)
    return Guard("sts", "verify", requiretls=wish.asked == "required")


def _require(wish: Wish) -> Guard | Unfit:
    """REQUIRETLS without DANE and MTA-STS: RFC 8689 §4.2.1 asks for validated names of hosts."""
    if wish.secure:
        return Guard("requiretls", "verify", requiretls=True)
    text = (
        f"the message demands REQUIRETLS, and nothing vouches for the MX hosts of {wish.domain}: "
        "it has neither DNSSEC nor an MTA-STS policy"
    )
    # RFC 8689 §4.2.1. Told at once: waiting would change nothing, and a secret should not lie about.
    return Unfit("validation-failure", text, "5.7.30")


def _ask_rule() -> Guard:
    """A rule wants a certificate that holds, and nobody says another way to tell than authorities."""
    return Guard("rule", "verify")


def _ask_site(wish: Wish, name: str) -> Guard:
    tested = "" if wish.sts is None or wish.sts.mode != "testing" else _find_named(wish.sts, name)
    if wish.level == "opportunistic":
        return Guard("opportunistic", "opportunistic", tested=tested) if tested else OPPORTUNISTIC
    return Guard("site", wish.level, tested=tested)


def _find_named(policy: StsPolicy, name: str) -> Literal["named", "unnamed"]:
    return "named" if policy.matches(name) else "unnamed"
