"""What a receiver does to those who bring mail.

A behaviour has opinions and a memory, but no socket: ``workers.emulation.receiver`` asks it at
each step. Those made here differ from ``Behaviour()``, which takes everything, in one point each.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reply other than yes."""

    code: int
    status: str
    text: str


def _welcome() -> Refusal | None:
    return None


def _know(sender: bytes, recipient: bytes) -> Refusal | None:
    return None


def _stay() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Behaviour:
    """The points at which receivers differ; ``summary`` is what the display says."""

    summary: str = "takes everything: TLS, PIPELINING, CHUNKING"
    starttls: bool = True
    chunking: bool = True
    greet: Callable[[], Refusal | None] = _welcome  # each connection
    judge: Callable[[bytes, bytes], Refusal | None] = _know  # each sender and recipient
    hang_up_in_content: Callable[[], bool] = _stay  # after 354: shall the connection break?
    finish: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint  # each complete message
    hang_up_after_dot: Callable[[], bool] = _stay  # the message is taken: leave without 250?


def make_slow(seconds: float) -> Behaviour:
    """Think about every message for a while."""

    async def think() -> None:
        await trio.sleep(seconds)

    return Behaviour(f"thinks {seconds:g} s before each 250", finish=think)


def make_greylisting() -> Behaviour:
    """Defer each pair of sender and recipient once."""
    known: set[tuple[bytes, bytes]] = set()

    def judge(sender: bytes, recipient: bytes) -> Refusal | None:
        if (sender, recipient) in known:
            return None
        known.add((sender, recipient))
        return Refusal(451, "4.7.1", "Greylisted, please try again in a moment")

    return Behaviour("greylists: 451 4.7.1 at first sight", judge=judge)


def make_picky(stranger: bytes) -> Behaviour:
    """Refuse recipients whose address begins with ``stranger``."""

    def judge(sender: bytes, recipient: bytes) -> Refusal | None:
        if recipient.startswith(stranger):
            return Refusal(550, "5.1.1", "No such person here")
        return None

    return Behaviour("550 5.1.1 to people it does not know", judge=judge)


def make_moody(*, every: int) -> Behaviour:
    """Send every n-th connection away."""
    is_due = _count(every)

    def greet() -> Refusal | None:
        if is_due():
            return Refusal(421, "4.7.0", "Too much mail right now, try again later")
        return None

    return Behaviour(f"421 4.7.0 to every {_ordinal(every)} connection", greet=greet)


def make_plain() -> Behaviour:
    """Know nothing of TLS."""
    return Behaviour("has no TLS: mail goes in clear", starttls=False, chunking=False)


def make_flaky(*, every: int) -> Behaviour:
    """Break off every n-th message; half as often, take it and break off before the 250.

    The second is the case that SMTP cannot solve (RFC 1047): whoever sent it has to try again,
    and the recipient gets it twice.
    """
    return Behaviour(
        f"hangs up in every {_ordinal(every)} message, or after it",
        chunking=False,
        hang_up_in_content=_count(every),
        hang_up_after_dot=_count(2 * every),
    )


def _count(every: int) -> Callable[[], bool]:
    """Return a function that says True each n-th time."""
    calls = 0

    def is_due() -> bool:
        nonlocal calls
        calls += 1
        return calls % every == 0

    return is_due


def _ordinal(number: int) -> str:
    words = {2: "second", 3: "third", 4: "fourth", 5: "fifth", 6: "sixth", 7: "seventh"}
    return words.get(number, f"{number}th")
