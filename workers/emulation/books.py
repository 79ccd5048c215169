"""Closing the books: what the gateway acknowledged against what receivers really have.

The ledger is the gateway's own account of itself. This one is made without it: every recipient of
every message that got a 250 is looked up at the receivers, by the hash of what arrived there, or
among the reports that came back to the sender.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from workers.emulation.inbox import Copy, Inbox
from workers.emulation.sender import Sent

_SHOWN = 3  # examples for each problem


@dataclass
class Books:
    """The account by recipient. ``find_problems`` says whether it closes."""

    messages: int = 0  # that got a 250
    accepted: int = 0  # recipients of these
    delivered: int = 0  # ... that have it
    bounced: int = 0  # ... about whom the sender was told
    lost: list[Copy] = field(default_factory=list)  # neither
    contradicted: list[Copy] = field(default_factory=list)  # both
    altered: list[Copy] = field(default_factory=list)  # bytes differ
    twice: int = 0  # second copies after a receiver left before its 250: SMTP's own window
    unexplained: list[Copy] = field(default_factory=list)  # second copies without that excuse
    unasked: list[Copy] = field(default_factory=list)  # arrived without ever being acknowledged
    copies: int = 0  # that arrived, all in all
    over_tls: int = 0  # messages that arrived over TLS
    transactions: int = 0  # messages that arrived
    reports: int = 0  # failed recipients in the reports that came back
    unknown: int = 0  # recipients of messages that a receiver took, leaving before its 250
    doubtful: int = 0  # recipients whose 250 may have been lost on its way to the sender

    def find_problems(self, ledger: Mapping[str, int], notices: Mapping[str, int]) -> Iterator[str]:
        """Yield what is wrong, a sentence each; nothing when the books close."""
        for copies, text in (
            (self.lost, "acknowledged, and neither delivered nor bounced"),
            (self.contradicted, "both delivered and bounced"),
            (self.altered, "arrived with other bytes"),
            (self.unexplained, "arrived twice without need"),
            (self.unasked, "arrived without having been acknowledged"),
        ):
            if copies:
                yield f"{_count(len(copies), 'recipient')} {text}: {_show(copies)}"
        if not self.messages:
            yield "the gateway accepted nothing"
        if ledger["unknown"] < self.unknown:
            yield (
                f"the ledger counts {ledger['unknown']} unknown outcomes, "
                f"and receivers left {self.unknown} recipients without an answer"
            )
        yield from _check_ledger(ledger, "the ledger")
        yield from _check_ledger(notices, "the ledger of notices")
        for name in ("accepted", "delivered", "bounced"):
            ours, theirs = int(getattr(self, name)), ledger[name]
            if not ours <= theirs <= ours + self.doubtful:
                yield f"the ledger says {theirs} {name}, receivers and senders say {ours}"


def close_books(sent: Iterable[Sent], unanswered: set[Copy], inboxes: Iterable[Inbox]) -> Books:
    """Compare. ``unanswered``: what may have been accepted without the sender knowing."""
    books = Books(doubtful=len(unanswered))
    arrived: dict[Copy, list[bytes]] = {}
    bounces: Counter[Copy] = Counter()
    excused = set(unanswered)
    for inbox in inboxes:
        arrived.update({copy: found for copy, found in inbox.copies.items() if copy[0]})
        bounces.update(inbox.bounces)
        excused |= inbox.unanswered
        books.unknown += len(inbox.unanswered)
        books.over_tls += inbox.messages_over_tls
        books.transactions += inbox.messages
    books.copies = sum(map(len, arrived.values()))
    books.reports = bounces.total()
    for message in sent:
        books.messages += 1
        for recipient in message.recipients:
            copy = (message.sender, recipient)
            found = arrived.pop(copy, [])
            _enter(books, copy, message.digest, found, bounces[copy])
            if len(found) > 1 and copy in excused:
                books.twice += len(found) - 1
            elif len(found) > 1:
                books.unexplained.append(copy)
    books.unasked = [copy for copy in arrived if copy not in unanswered]
    return books


def _enter(books: Books, copy: Copy, digest: bytes, found: list[bytes], reports: int) -> None:
    """Enter one recipient of one acknowledged message."""
    books.accepted += 1
    if found and reports:
        books.contradicted.append(copy)
    if found:
        books.delivered += 1
        if any(other != digest for other in found):
            books.altered.append(copy)
    elif reports:
        books.bounced += 1
    else:
        books.lost.append(copy)


def _check_ledger(ledger: Mapping[str, int], name: str) -> Iterator[str]:
    if ledger["accepted"] != ledger["delivered"] + ledger["bounced"] + ledger["queued"]:
        yield f"{name} does not add up: {dict(ledger)}"
    if ledger["queued"]:
        yield f"{name} still has {ledger['queued']} queued"


def _show(copies: list[Copy]) -> str:
    shown = [f"{s.decode(errors='replace')} to {r.decode(errors='replace')}" for s, r in copies]
    more = ["..."] if len(shown) > _SHOWN else []
    return ", ".join(shown[:_SHOWN] + more)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
