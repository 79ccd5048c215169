"""All checks of ``outgate doctor``: which there are, and doing them side by side.

A part is what ``--only`` names; a check is what a finding says, and stands for its part's others of
that name. Each has a limit of time: a DNS that is dead must not keep the rest from being shown.
"""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio

from relay.config import Config
from relay.config.schema import Source
from relay.errors import ConfigError, StartError
from relay.net.resolver import Resolver
from relay.store.link import Link
from relay.store.opening import open_link
from workers.doctor.binding import check_binding
from workers.doctor.blocklist import check_blocklists
from workers.doctor.certificate import check_certificate
from workers.doctor.coverage import check_coverage
from workers.doctor.finding import Finding
from workers.doctor.nameservice import check_resolver
from workers.doctor.networks import check_networks
from workers.doctor.pointer import check_pointer
from workers.doctor.storehouse import check_store
from workers.doctor.together import do_together
from workers.doctor.visible import describe

LONGEST = 60.0  # s, for one check of one thing

# part -> the checks that its findings have
PARTS = {
    "store": ("store", "clock"),
    "resolver": ("resolver",),
    "certificate": ("certificate",),
    "networks": ("networks",),
    "source": ("bind", "ptr", "ehlo", "dnsbl", "spf"),
}
NAMES = tuple(dict.fromkeys([*PARTS, *(check for checks in PARTS.values() for check in checks)]))

_Role = Callable[[], Coroutine[Any, Any, Sequence[Finding]]]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do: the checks that it makes, and what they are about."""

    checks: tuple[str, ...]
    subject: str
    role: _Role
    source: str = ""


def expand(names: Sequence[str]) -> frozenset[str]:
    """Return the checks behind names of parts and of checks; no names: all."""
    return frozenset(check for name in names or PARTS for check in PARTS.get(name, (name,)))


def list_source_steps(config: Config, source: Source, resolver: Resolver) -> list[Step]:
    """Return what the DNS is asked about one source."""
    subject = describe(source)
    return [
        Step(checks, subject, role, source.name)
        for checks, role in (
            (("ptr", "ehlo"), partial(check_pointer, source, resolver)),
            (("dnsbl",), partial(check_blocklists, source, config.checks.dnsbl, resolver)),
            (("spf",), partial(check_coverage, config, source, resolver)),
        )
    ]


async def examine(
    config: Config,
    *,
    checks: frozenset[str],
    sources: Sequence[Source],
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> list[Finding]:
    """Do these checks, those of sources for these sources; return what was found, part by part.

    ``tell`` hears how many steps of how many are done. Raises nothing that a check meets.
    """
    link: Link | None = None
    missing = ""
    try:
        link = open_link(config)
    except StartError as error:  # an embedded store that does not run
        missing = str(error)
    try:
        steps = [*_list_store_steps(config, link, missing), *_list_steps(config, sources)]
        chosen = [step for step in steps if checks.intersection(step.checks)]
        found = await do_together(_count(chosen, tell))
    finally:
        if link is not None:
            await link.aclose()
    return [one for findings in found for one in findings if one.check in checks]


def _list_store_steps(config: Config, link: Link | None, missing: str) -> list[Step]:
    """Return what the store is asked; ``missing``: why there is none."""
    if link is not None:
        return [
            Step(("store", "clock"), "the store", partial(check_store, config, link)),
            Step(("networks",), "the networks", partial(check_networks, config, link)),
        ]

    async def tell() -> Sequence[Finding]:
        return [Finding("store", "the embedded store", "error", missing)]

    return [Step(("store",), "the store", tell)]


def _list_steps(config: Config, sources: Sequence[Source]) -> list[Step]:
    steps = [
        Step(("resolver",), "the resolver", partial(check_resolver, config)),
        Step(("certificate",), "the certificate", partial(check_certificate, config)),
    ]
    try:
        resolver = Resolver(config.dns)
    except (StartError, ConfigError):
        resolver = None  # check_resolver says so
    for source in sources:
        steps.append(Step(("bind",), describe(source), partial(check_binding, source), source.name))
        if resolver is not None:
            steps += list_source_steps(config, source, resolver)
    return steps


def _count(steps: Sequence[Step], tell: Callable[[int, int], None]) -> list[_Role]:
    """Return the steps' roles, each with a limit of time, and counted when it is done."""
    done = 0

    async def do(step: Step) -> Sequence[Finding]:
        nonlocal done
        found = await do_in_time(step)
        done += 1
        tell(done, len(steps))
        return found

    tell(0, len(steps))
    return [partial(do, step) for step in steps]


async def do_in_time(step: Step) -> Sequence[Finding]:
    """Do a step; what takes too long is nobody's fault that we could name."""
    with trio.move_on_after(LONGEST):
        return await step.role()
    text = f"no end after {LONGEST:.0f} s: given up"
    return [
        Finding(check, step.subject, "skipped", text, source=step.source) for check in step.checks
    ]
