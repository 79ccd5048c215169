"""Is a source's address on a block list? DNS lists, as RFC 5782 describes them.

An address is listed when its name in the list's zone (§2.1: the octets in reverse; §2.4: IPv6, the
nibbles) has an A record in 127.0.0.0/8. Not every record is a listing:

    127.255.255.x         the list does not answer us (Spamhaus: an open resolver, too many questions)
    outside of 127/8      somebody has caught the question, or the zone has been sold
    127.0.0.1 is listed   the list is no more: one that is shut down likes to list everybody. §5 says
                          that this address is never on a list that works

A list that is like that is told about, and never held against a source.
"""

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from relay.config.schema import Source
from relay.net.resolver import NameNotFound, NameUnavailable, Resolver
from workers.doctor.finding import Finding
from workers.doctor.together import do_together
from workers.doctor.visible import describe, explain_unknown, read_address
from workers.quote import limit

# RFC 5782 §5: never listed, and always.
_NEVER = {4: "127.0.0.1", 6: "::ffff:127.0.0.1"}
_ALWAYS = {4: "127.0.0.2", 6: "::ffff:127.0.0.2"}
_ANSWERS = ipaddress.ip_network("127.0.0.0/8")
_REFUSALS = ipaddress.ip_network("127.255.255.0/24")
_MOST_CODES = 5


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a list says of one address."""

    state: Literal["listed", "clear", "silent", "refused"]
    text: str = ""


async def check_blocklists(
    source: Source, zones: Sequence[str], resolver: Resolver
) -> Sequence[Finding]:
    """Ask each list about a source ("dnsbl"); at most three questions each."""
    if not zones:
        return []
    if why := explain_unknown(source):
        return [Finding("dnsbl", describe(source), "skipped", why, source=source.name)]
    names = [zone.lower().rstrip(".") for zone in zones]
    return await do_together([partial(_check, source, name, resolver) for name in names])


async def _check(source: Source, zone: str, resolver: Resolver) -> Finding:
    subject, address = describe(source), read_address(source)
    answer = await _ask(address, zone, resolver)
    if answer.state == "listed":
        return await _confirm(source, zone, answer, resolver)
    if answer.state in ("silent", "refused"):
        return _tell_silent(source, zone, answer)
    # Many lists know nothing of IPv6, and have no test entry there either.
    version = ipaddress.ip_address(address).version
    test = await _ask(_ALWAYS[version], zone, resolver)
    if test.state in ("silent", "refused"):
        return _tell_silent(source, zone, test)
    if test.state == "clear":
        text = f"not on {zone}, which has no entry to test it with for IPv{version}: it may know nothing"
        return Finding("dnsbl", subject, "notice", text, source=source.name)
    return Finding("dnsbl", subject, "ok", f"not on {zone}", source=source.name)


async def _confirm(source: Source, zone: str, answer: _Answer, resolver: Resolver) -> Finding:
    """A listing counts when the list does not list everybody."""
    version = ipaddress.ip_address(read_address(source)).version
    test = await _ask(_NEVER[version], zone, resolver)
    if test.state == "listed":
        text = f"{zone} lists everybody: it does not work, and what it says is not counted"
        advice = "take it out of checks.dnsbl"
        return Finding("dnsbl", describe(source), "warning", text, advice, source.name)
    if test.state != "clear":
        return _tell_silent(source, zone, test)
    reason = await _find_reason(_spell(read_address(source), zone), resolver)
    text = f"listed on {zone} ({answer.text}){': ' if reason else ''}{reason}"
    advice = f"find out what was sent from it, end that, and ask {zone} to take it off"
    return Finding("dnsbl", describe(source), "error", text, advice, source.name)


def _tell_silent(source: Source, zone: str, answer: _Answer) -> Finding:
    if answer.state == "silent":
        text = f"{zone} could not be asked: {answer.text}"
        return Finding("dnsbl", describe(source), "skipped", text, source=source.name)
    text = f"{zone} does not answer us ({answer.text}); whether it lists the address is not known"
    advice = "ask through a resolver of your own, not a public one; some lists want a key"
    return Finding("dnsbl", describe(source), "notice", text, advice, source.name)


async def _ask(address: str, zone: str, resolver: Resolver) -> _Answer:
    try:
        found = (await resolver.find_addresses(_spell(address, zone), socket.AF_INET)).records
    except NameNotFound:
        return _Answer("clear")
    except NameUnavailable as error:
        return _Answer("silent", str(error))
    if not found:
        return _Answer("clear")
    codes = sorted(map(ipaddress.IPv4Address, found))
    shown = ", ".join(map(str, codes[:_MOST_CODES]))
    if all(code in _ANSWERS and code not in _REFUSALS for code in codes):
        return _Answer("listed", shown)
    return _Answer("refused", f"it says {shown}")


async def _find_reason(name: str, resolver: Resolver) -> str:
    """Return what the list says about why (§2.1: TXT); "" when it says nothing."""
    try:
        found = (await resolver.find_txt(name)).records
    except NameUnavailable:
        return ""
    return limit(
        " ".join(one.decode("utf-8", "replace") for one in sorted(found)[:_MOST_CODES]), 200
    )


def _spell(address: str, zone: str) -> str:
    """Return the name of an address in a list: RFC 5782 §2.1, §2.4."""
    one = ipaddress.ip_address(address)
    # Not ``exploded``: Python 3.13 writes ::ffff:127.0.0.2 with its dots there.
    parts = str(one).split(".") if one.version == 4 else list(one.packed.hex())
    return ".".join([*reversed(parts), zone])
