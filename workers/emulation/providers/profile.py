"""What one provider does: a ``[[provider]]`` table of the providers' file.

Everything is counted by client address: that is what providers see, and what they say they count.
What is left out is not done: a profile of nothing but a name takes everything.
"""

from typing import Literal

import msgspec

from relay.config.section import Section
from relay.config.units import Endpoint, Octets, Rates, Seconds

Tls = Literal["none", "offered", "required"]


class Greylist(Section, frozen=True):
    """Defer what was never seen: client address, sender and recipient together."""

    delay: Seconds = Seconds(300)  # before this another try is too early
    wait: Seconds = Seconds(2 * 86400)  # how long a first try is remembered
    memory: Seconds = Seconds(35 * 86400)  # how long one that came back is
    # After so many that came back, the address is taken at its word; 0: never.
    trust_after: int = 0


class Escalation(Section, frozen=True):
    """What becomes of throttling that is ignored.

    A throttle begins a penalty in which nothing is taken. An attempt within it starts it anew,
    longer by ``factor``, up to ``maximum``. What arrives within ``grace`` of its beginning was on
    its way already, and is refused without being counted.
    """

    penalty: Seconds = Seconds(60)
    factor: float = 2.0
    maximum: Seconds = Seconds(3600)
    grace: Seconds = Seconds(5)
    forgiveness: Seconds = Seconds(3600)  # without a throttle: the next penalty is the first again


class Block(Section, frozen=True):
    """When an address is refused altogether, and for how long. 0: never for this reason."""

    after: int = 0  # attempts within penalties, without ``escalation.forgiveness`` between them
    complaint_share: float = 0.0  # of what was delivered to people, over about a day
    at_least: int = 20  # complaints, before their share says anything
    lasts: Seconds = Seconds(4 * 3600)
    factor: float = 2.0  # each further block is longer
    maximum: Seconds = Seconds(7 * 86400)
    each_attempt: Seconds = Seconds(0)  # added by every attempt under a block
    forgiveness: Seconds = Seconds(7 * 86400)  # after a block's end: the next is the first again
    permanent: bool = True  # 5xx; else 4xx
    at: Literal["connect", "mail"] = "mail"


class Allowance(Section, frozen=True):
    """Messages a day from one address. It grows after good days and shrinks after bad ones.

    A good day: at least ``used`` of the allowance, at most ``spoilt`` of the attempts refused for
    the address' own fault, no block. A bad one: more than that, or a block. A day of little mail is
    neither.
    """

    first: int
    maximum: int
    growth: float = 1.5
    shrink: float = 0.5
    used: float = 0.25
    spoilt: float = 0.1
    idle: Seconds = Seconds(30 * 86400)  # after so long without mail it is the first day again
    known: tuple[str, ...] = ()  # addresses that begin at the maximum


class Complaints(Section, frozen=True):
    """How many of the delivered copies are called spam by who got them, and how much later."""

    share: float = 0.0
    delay: Seconds = Seconds(3600)  # on average; the spread is exponential
    senders: dict[str, float] = msgspec.field(
        default_factory=dict
    )  # other shares, by domain of the envelope's sender


class Tarpit(Section, frozen=True):
    """Seconds before each reply: to everybody, and to an address with a penalty or a block."""

    always: Seconds = Seconds(0)
    penalty: Seconds = Seconds(0)


class Change(Section, frozen=True):
    """Limits that change while somebody sends; what is left out stays."""

    at: Seconds  # after the start
    rate: Rates | None = None
    connections: int | None = None  # 0: no limit
    messages_per_connection: int | None = None


class Blocked(Section, frozen=True):
    """A block that nobody provoked."""

    address: str
    lasts: Seconds
    at: Seconds = Seconds(0)  # after the start


class Profile(Section, frozen=True):
    """One provider. Limits of 0: none."""

    name: str
    style: str = "generic"  # whose texts: a table of replies.toml
    domains: tuple[str, ...] = ()  # that it takes mail for
    listen: Endpoint | None = None  # on loopback; without it: any free port of 127.0.0.1
    connections: int = 0  # open at once
    rate: Rates | None = None  # messages; by the hour or the day: a sum that may be used up at once
    messages_per_connection: int = 0
    recipients_per_message: int = 0
    max_message: Octets = Octets(0)
    greylist: Greylist | None = None
    escalation: Escalation | None = None
    block: Block = Block()
    allowance: Allowance | None = None
    unknown: float = 0.0  # share of addresses that nobody has; always the same ones
    spam: float = 0.0  # share of messages that are taken for spam
    complaints: Complaints = Complaints()
    tls: Tls = "offered"
    tarpit: Tarpit = Tarpit()
    latency: Seconds = Seconds(0)  # before each reply, on average
    changes: tuple[Change, ...] = ()
    blocked: tuple[Blocked, ...] = ()
