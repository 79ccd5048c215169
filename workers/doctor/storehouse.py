"""The store: is it there, does it keep what it acknowledges, has it room, and what time is it there?"""

import time
from collections.abc import Iterator, Sequence

from relay.config import Config
from relay.config.storeurl import hide_secrets
from relay.errors import StartError, StoreError, StoreUnavailable
from relay.store.durability import find_risks, find_weaknesses
from relay.store.link import Link
from relay.store.suspension import Suspensions
from relay.store.view import View
from workers.doctor.finding import Finding, Level

# Workers keep to the store's clock, so a difference costs no mail. Certificates, signatures and
# whoever compares logs do look at the clock of this machine.
_NOTICEABLE, _GREAT = 2.0, 30.0  # s
_MIB = 1 << 20


async def check_store(config: Config, link: Link) -> Sequence[Finding]:
    """Check reach, durability, memory and listeners ("store"), and the clock ("clock")."""
    place = hide_secrets(link.url)
    try:
        begun = time.time()
        clock = await Suspensions(link).read_clock()
        ended = time.time()
    except (StoreUnavailable, StoreError) as error:
        advice = (
            "start it, or correct store.url" if config.store.url else "is `outgate up` running?"
        )
        return [Finding("store", place, "error", str(error), advice)]
    return [
        *(await _check_durability(config, link, place)),
        *(await _check_replication(config, link, place)),
        *(await _check_memory(config, link, place)),
        *(await _check_listeners(link, place)),
        _check_clock(clock, begun, ended, place),
    ]


async def _check_durability(config: Config, link: Link, place: str) -> Sequence[Finding]:
    try:
        weaknesses = await find_weaknesses(link)
    except (StartError, StoreError) as error:
        return [Finding("store", place, "error", str(error))]
    if not weaknesses:
        return [Finding("store", place, "ok", "keeps what it acknowledges")]
    accepted = config.store.durability == "warn"
    level: Level = "warning" if accepted else "error"
    advice = "set it with CONFIG SET, and in the server's configuration"
    if not accepted:
        advice += '; services refuse to start, unless store.durability = "warn"'
    return [Finding("store", place, level, f"can forget: {one}", advice) for one in weaknesses]


async def _check_replication(config: Config, link: Link, place: str) -> Sequence[Finding]:
    try:
        risks = await find_risks(link, config.store.replicas)
    except (StoreUnavailable, StoreError) as error:
        return [Finding("store", place, "skipped", f"its replication is not known: {error}")]
    return [Finding("store", place, "warning", risk) for risk in risks]


async def _check_memory(config: Config, link: Link, place: str) -> Sequence[Finding]:
    try:
        used, most = await View(link, ()).read_memory()
    except (StoreUnavailable, StoreError, KeyError, ValueError) as error:
        return [Finding("store", place, "skipped", f"its memory is not known: {error}")]
    return list(_judge_memory(config, used, most, place))


def _judge_memory(config: Config, used: int, most: int, place: str) -> Iterator[Finding]:
    if not most:
        text = f"{used // _MIB:,} MiB used, and no maxmemory: the machine's memory is the limit"
        advice = "set maxmemory, so that the ingress can say 452 before the server is killed"
        yield Finding("store", place, "warning", text, advice)
        return
    share, mark = used / most, config.store.memory_mark
    text = f"{used // _MIB:,} of {most // _MIB:,} MiB used ({share:.0%})"
    advice = "let the queue get shorter (`outgate queues`), or raise maxmemory"
    if share >= mark:
        text += f": over the mark of {mark:.0%}, the ingress answers 452"
        yield Finding("store", place, "error", text, advice)
    elif share >= 0.75 * mark:
        text += f"; at {mark:.0%} the ingress answers 452"
        yield Finding("store", place, "warning", text, advice)
    else:
        yield Finding("store", place, "ok", text)


async def _check_listeners(link: Link, place: str) -> Sequence[Finding]:
    """Events that a listener does not take wait in the store's memory, where mail is.

    A limit cuts off who is too slow. That costs nothing: it comes back by itself, and tells that something
    was missed (workers/admin/hearing.py). So any limit will do, and none is what there is to say.
    """
    try:
        asked = await link.call_each("CONFIG", "GET", "client-output-buffer-limit")
    except (StoreUnavailable, StoreError):
        return []  # who shows no settings has been told of by its durability
    text = (
        "no limit for what waits for a listener: one that hangs (`outgate tail`, the admin service) "
        "takes the memory that mail needs"
    )
    advice = 'CONFIG SET client-output-buffer-limit "pubsub 32mb 8mb 60", and in its configuration'
    return [
        Finding("store", place, "warning", f"{name}: {text}" if name else text, advice)
        for name, setting in asked
        if setting and _is_boundless(setting[1].decode())
    ]


def _is_boundless(limits: str) -> bool:
    """Tell whether "CLASS HARD SOFT SECONDS ..." has neither limit for pubsub: 0 is none."""
    words = limits.split()
    classes = dict(zip(words[::4], zip(words[1::4], words[2::4], strict=False), strict=False))
    return classes.get("pubsub") == ("0", "0")


def _check_clock(clock: float, begun: float, ended: float, place: str) -> Finding:
    """The reading is from some time between the two."""
    apart = max(0.0, begun - clock, clock - ended)
    if apart <= _NOTICEABLE:
        return Finding("clock", place, "ok", "this machine and the store agree about the time")
    text = f"this machine's clock and the store's are {apart:.0f} s apart"
    level: Level = "warning" if apart > _GREAT else "notice"
    return Finding("clock", place, level, text, "have both set by NTP")
