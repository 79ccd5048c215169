"""Has a source's address a name, does the name lead back to it, and is it the one that EHLO says?

Large receivers refuse mail from an address without such a name (FCrDNS: PTR, then A or AAAA back),
and count a name in EHLO against it that is another, or none. RFC 5321 §4.1.4 forbids them to refuse
for that alone; many do.
"""

from collections.abc import Sequence

from relay.config.schema import Source
from relay.net.resolver import NameNotFound, NameUnavailable, Resolver
from workers.doctor.finding import Finding, Level
from workers.doctor.visible import describe, explain_unknown, read_address
from workers.hosts import find_family
from workers.quote import limit

# PTR records of one address that are looked at; who has more is no mail host.
_MOST_NAMES = 10
_Names = Sequence[str]


async def check_pointer(source: Source, resolver: Resolver) -> Sequence[Finding]:
    """Check PTR and the way back ("ptr"), and EHLO's name ("ehlo")."""
    if why := explain_unknown(source):
        return [
            _find(source, "ptr", "skipped", why),
            _find(source, "ehlo", "skipped", why),
        ]
    try:
        # In an order of ours: a resolver may turn theirs with each answer.
        names = sorted((await resolver.find_names(source.address)).records)[:_MOST_NAMES]
    except NameUnavailable as error:
        text = f"nobody could say which name it has: {error}"
        return [
            _find(source, "ptr", "skipped", text),
            await _check_greeting(source, resolver, None),
        ]
    return [
        await _check_name(source, resolver, names),
        await _check_greeting(source, resolver, names),
    ]


async def _check_name(source: Source, resolver: Resolver, names: _Names) -> Finding:
    """Look for one name that leads back; one is enough."""
    if not names:
        advice = (
            f"have whoever owns {source.address} give it a PTR record with the name {source.ehlo}"
        )
        return _find(source, "ptr", "error", "the address has no name (PTR)", advice)
    shown = ", ".join(limit(name, 80) for name in names)
    doubt = ""
    for name in names:
        try:
            if read_address(source) in await _find_addresses(source, resolver, name):
                return _find(source, "ptr", "ok", f"{limit(name, 80)}, and back")
        except NameUnavailable as error:
            doubt = str(error)
    if doubt:
        text = f"its name is {shown}; nobody could say where that leads: {doubt}"
        return _find(source, "ptr", "skipped", text)
    text = f"its name is {shown}, which does not lead back to it"
    advice = f"give {limit(names[0], 80)} an address record with {source.address}"
    return _find(source, "ptr", "error", text, advice)


async def _check_greeting(source: Source, resolver: Resolver, names: _Names | None) -> Finding:
    """Hold EHLO's name against the address and its names; ``names`` is None when nobody knows them."""
    name = source.ehlo.lower().rstrip(".")
    if name.startswith("["):
        advice = "give the source a name in source.ehlo: many receivers refuse address literals"
        return _find(source, "ehlo", "warning", f"EHLO says {name}, which is no name", advice)
    try:
        found = await _find_addresses(source, resolver, name)
    except NameUnavailable as error:
        return _find(source, "ehlo", "skipped", f"nobody could say where {name} leads: {error}")
    record = f"give {name} an address record with {source.address}"
    if not found:
        text = f"EHLO says {name}, which has no address of this family"
        return _find(source, "ehlo", "error", text, record)
    if read_address(source) not in found:
        text = f"EHLO says {name}, which leads to {', '.join(sorted(found)[:3])}"
        return _find(source, "ehlo", "warning", text, record)
    if names and name not in names:
        text = f"EHLO says {name}, the address is called {limit(names[0], 80)}"
        advice = f'say ehlo = "{limit(names[0], 80)}", or let the PTR record say {name}'
        return _find(source, "ehlo", "warning", text, advice)
    return _find(source, "ehlo", "ok", f"EHLO says {name}, which leads to the address")


async def _find_addresses(source: Source, resolver: Resolver, name: str) -> frozenset[str]:
    """Return the addresses of a name, of the source's family. Raises NameUnavailable."""
    try:
        found = await resolver.find_addresses(name, find_family(source.address))
        return frozenset(found.records)
    except NameNotFound:
        return frozenset()


def _find(source: Source, check: str, level: Level, text: str, advice: str = "") -> Finding:
    return Finding(check, describe(source), level, text, advice, source.name)
