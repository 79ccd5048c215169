"""A provider: opinions and memory, with no socket and no clock of its own.

``host`` puts one on a port; a simulation calls it as it is, with virtual time. Nothing happens by
itself: whatever is due by the clock is done when somebody next asks. All chance comes from one
seeded generator, so the same calls at the same times get the same answers.
"""

import math
import random
import zlib
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from workers.emulation.behaviour import Refusal
from workers.emulation.providers.allowance import DAY
from workers.emulation.providers.books import Books
from workers.emulation.providers.bucket import find_burst
from workers.emulation.providers.client import Client, find_quota, make_client
from workers.emulation.providers.complaints import Complaint, Grumblers
from workers.emulation.providers.greylist import Memory
from workers.emulation.providers.profile import Profile
from workers.emulation.providers.wording import GENERIC, load_styles, say

__all__ = ["Books", "Complaint", "Limits", "Provider", "Refusal", "Visit"]

_MOST_CLIENTS = 65_536  # addresses that are remembered; the oldest are forgotten first
_MOST_COMPLAINTS = 100_000  # that wait until somebody takes them
_CLOSING = 421  # RFC 5321 §3.8: the reply after which the server closes
_HASHES = 1 << 32


@dataclass(frozen=True, slots=True)
class Limits:
    """What really holds for one address at this moment: for an oracle that knows it."""

    rate: float  # messages a second; infinity when there is no limit
    burst: int  # ... that may come at once; 0 when there is no limit
    connections: int | None
    messages_per_connection: int | None
    allowance_left: int | None  # messages that are still taken today
    penalised_until: float  # by the provider's clock; 0.0 when there is no penalty
    blocked_until: float  # ... no block


class Provider:
    """One provider. ``clock`` returns seconds that never go back, from wherever it likes."""

    def __init__(self, profile: Profile, *, seed: int, clock: Callable[[], float]) -> None:
        """Open for business: the clock's present is the time 0 of the profile's changes."""
        self.profile = profile  # with the limits as they are now
        self.started = clock()
        self._clock = clock
        self._random = random.Random(seed)  # noqa: S311 - a play, not a secret
        styles = load_styles()
        self.host = f"mx.{profile.domains[0] if profile.domains else profile.name}"
        self._words = styles.get(profile.style, styles[GENERIC])
        self._changes = deque(sorted(profile.changes, key=lambda change: change.at))
        self._clients: OrderedDict[str, Client] = OrderedDict()
        self._memory = Memory(profile.greylist) if profile.greylist else None
        self._people = Grumblers(profile.complaints, self._random)
        self._complaints: deque[Complaint] = deque(maxlen=_MOST_COMPLAINTS)
        self._salt = zlib.crc32(profile.name.encode())

    # -- connections ---------------------------------------------------------------------------

    def open(self, address: str) -> Refusal | None:
        """Take a connection (None: it counts until ``close``), or say why not."""
        now, client = self._meet(address)
        if self.profile.block.at == "connect" and self._is_blocked(client, now):
            return self._refuse_blocked(client, now)
        if self.profile.connections and client.open >= self.profile.connections:
            client.books.refused_connections += 1
            return self.say("too-many-connections", address)
        client.open += 1
        client.books.connections += 1
        return None

    def close(self, address: str) -> None:
        """End a connection that ``open`` took. ``Visit.close`` does it by itself."""
        client = self._meet(address)[1]
        client.open = max(0, client.open - 1)

    def visit(self, address: str, *, tls: bool = True) -> "Visit":
        """Begin to talk on a connection that ``open`` took. ``tls``: it is encrypted."""
        return Visit(self, address, tls=tls)

    def send(
        self,
        address: str,
        sender: bytes,
        recipient: bytes,
        *,
        size: int = 1000,
        spam: bool = False,
        message_id: str = "",
    ) -> Refusal | None:
        """Bring one message on a connection that is there already; None when it is taken.

        All rules hold but those about connections: how many, and messages on each.
        """
        visit = Visit(self, address, tls=True, counted=False)
        refusal = visit.mail(sender) or visit.rcpt(recipient)
        refusal = refusal or visit.finish(size, spam=spam, message_id=message_id)
        visit.close()
        return refusal

    # -- what is known -------------------------------------------------------------------------

    @property
    def books(self) -> dict[str, Books]:
        """The counts of every address that came."""
        self._advance(self._clock())
        return {address: client.books for address, client in self._clients.items()}

    def total(self) -> Books:
        """Return the counts of all addresses together."""
        total = Books()
        for books in self.books.values():
            total.add(books)
        return total

    def limits(self, address: str) -> Limits:
        """Return what holds for an address now."""
        now, client = self._meet(address)
        windows = self.profile.rate.windows if self.profile.rate else ()
        quota = find_quota(client, self._day(now))
        until = self._find_block(client, now)
        penalised = client.patience.penalised_until
        return Limits(
            rate=min((rate.count / rate.seconds for rate in windows), default=math.inf),
            burst=min(map(find_burst, windows), default=0),
            connections=self.profile.connections or None,
            messages_per_connection=self.profile.messages_per_connection or None,
            allowance_left=quota.left if quota is not None else None,
            penalised_until=penalised if penalised > now else 0.0,
            blocked_until=until if until > now else 0.0,
        )

    def count_open(self, address: str) -> int:
        """Return how many connections an address has."""
        return self._meet(address)[1].open

    def take_complaints(self) -> list[Complaint]:
        """Take the complaints that have been made since the last call, the oldest first."""
        self._advance(self._clock())
        taken = list(self._complaints)
        self._complaints.clear()
        return taken

    def draw_delay(self, address: str) -> float:
        """Draw the seconds before the next reply to an address: latency and tarpit."""
        now, client = self._meet(address)
        tarpit, latency = self.profile.tarpit, self.profile.latency
        seconds = self._random.expovariate(1 / latency) if latency else 0.0
        seconds += tarpit.always
        if tarpit.penalty and (
            now < client.patience.penalised_until or self._is_blocked(client, now)
        ):
            seconds += tarpit.penalty
        return seconds

    # -- for Visit -----------------------------------------------------------------------------

    def say(self, kind: str, address: str, recipient: bytes = b"") -> Refusal:
        """Put a refusal into the provider's words."""
        replies = self._words[kind]
        chosen = replies[0] if len(replies) == 1 else self._random.choice(replies)
        return say(chosen, self.host, address, recipient)

    def take_mail(self, address: str) -> Refusal | None:
        """Decide on one more message of an address, and count it."""
        now, client = self._meet(address)
        quota = find_quota(client, self._day(now))
        patience, books = client.patience, client.books
        if self._is_blocked(client, now):
            return self._refuse_blocked(client, now)
        if now < patience.penalised_until:
            patience.ignore(now)
        elif self.profile.rate is None or client.buckets.take(self.profile.rate, now):
            if quota is None or quota.take():
                books.mails += 1
                return None
            books.over_allowance += 1
            quota.faults += 1
            return self.say("allowance", address)
        else:
            patience.throttle(now)
        books.throttled += 1
        if quota is not None:
            quota.faults += 1
        return self.say("throttled", address)

    def give_back(self, address: str, day: int) -> None:
        """Take a message off the day's count that was not taken in the end."""
        if (quota := self._meet(address)[1].quota) is not None:
            quota.give_back(day)

    def judge(self, address: str, sender: bytes, recipient: bytes) -> Refusal | None:
        """Decide on one recipient."""
        now, client = self._meet(address)
        if self.profile.unknown and self._hash(recipient) < self.profile.unknown:
            client.books.unknown += 1
            return self.say("unknown", address, recipient)
        if self._memory is not None and not self._memory.takes((address, sender, recipient), now):
            client.books.greylisted += 1
            return self.say("greylisted", address, recipient)
        return None

    def is_spam(self) -> bool:
        """Draw whether a message is taken for spam."""
        return bool(self.profile.spam) and self._random.random() < self.profile.spam

    def deliver(
        self, address: str, sender: bytes, recipients: list[bytes], message_id: str, head: bytes
    ) -> None:
        """Put a message into its recipients' mailboxes, who will think of it what they like."""
        now, client = self._meet(address)
        client.books.accepted += 1
        client.books.delivered += len(recipients)
        if self._people.is_quiet:
            return
        client.patience.deliver(len(recipients), now)
        for recipient in recipients:
            self._people.hear(Complaint(address, sender, recipient, message_id, now, head))

    def today(self) -> int:
        """Return the number of the day, from 0."""
        return self._day(self._clock())

    def count(self, address: str) -> Books:
        """Return the counts of one address, to be counted on."""
        return self._meet(address)[1].books

    # -- inside --------------------------------------------------------------------------------

    def _meet(self, address: str) -> tuple[float, Client]:
        """Return the time, with all done that was due, and what is known of an address."""
        now = self._clock()
        self._advance(now)
        client = self._clients.get(address)
        if client is None:
            client = self._clients[address] = make_client(self.profile, address, self._day(now))
            if len(self._clients) > _MOST_CLIENTS:
                self._clients.popitem(last=False)
        return now, client

    def _advance(self, now: float) -> None:
        while self._changes and self.started + self._changes[0].at <= now:
            self.profile = msgspec.structs.replace(self.profile, **dict(self._next_change()))
        for complaint in self._people.take_due(now):
            self._complaints.append(complaint)
            if client := self._clients.get(complaint.address):
                client.books.complaints += 1
                client.patience.complain(complaint.at)

    def _next_change(self) -> Iterator[tuple[str, object]]:
        change = self._changes.popleft()
        for name in ("rate", "connections", "messages_per_connection"):
            if (value := getattr(change, name)) is not None:
                yield name, value

    def _day(self, now: float) -> int:
        return int((now - self.started) / DAY)

    def _hash(self, recipient: bytes) -> float:
        """Return a number from 0 to 1 that is always the same for one recipient."""
        return zlib.crc32(recipient.lower(), self._salt) / _HASHES

    def _find_block(self, client: Client, now: float) -> float:
        """Return when the block of this moment ends; a time that is over when there is none."""
        until = client.patience.blocked_until
        for block in self.profile.blocked:
            begun = self.started + block.at
            if block.address == client.address and begun <= now < begun + block.lasts:
                until = max(until, begun + block.lasts)
        return until

    def _is_blocked(self, client: Client, now: float) -> bool:
        return now < self._find_block(client, now)

    def _refuse_blocked(self, client: Client, now: float) -> Refusal:
        client.books.blocked += 1
        client.patience.knock(now)
        if (quota := find_quota(client, self._day(now))) is not None:
            quota.blocked = True
        return self.say(
            "blocked" if self.profile.block.permanent else "blocked-for-now", client.address
        )


class Visit:
    """One connection's dealings with a provider: messages, one after the other."""

    def __init__(
        self, provider: Provider, address: str, *, tls: bool, counted: bool = True
    ) -> None:
        """``counted``: ``Provider.open`` has taken the connection, ``close`` gives it back."""
        self.address = address
        self.tls = tls
        self.hangs_up = False  # the last refusal was a 421: close, without waiting for QUIT
        self._provider = provider
        self._counted = counted
        self._messages = 0
        self._sender = b""
        self._recipients: list[bytes] = []
        self._day: int | None = None  # of the message that has begun, and not ended

    def mail(self, sender: bytes) -> Refusal | None:
        """Begin a message; one that had begun is void. None: go on."""
        self.abandon()
        provider, profile = self._provider, self._provider.profile
        books = provider.count(self.address)
        if profile.tls == "required" and not self.tls:
            books.without_tls += 1
            return self._refuse(provider.say("tls-required", self.address))
        most = provider.profile.messages_per_connection
        if most and self._messages >= most:
            books.over_connection += 1
            return self._refuse(provider.say("messages-per-connection", self.address))
        if refusal := provider.take_mail(self.address):
            return self._refuse(refusal)
        self._messages += 1
        self._day = provider.today()
        self._sender, self._recipients = sender, []
        self.hangs_up = False
        return None

    def rcpt(self, recipient: bytes) -> Refusal | None:
        """Name a recipient. None: this one is taken."""
        provider = self._provider
        most = provider.profile.recipients_per_message
        if most and len(self._recipients) >= most:
            provider.count(self.address).too_many += 1
            return self._refuse(provider.say("too-many-recipients", self.address, recipient))
        if refusal := provider.judge(self.address, self._sender, recipient):
            return self._refuse(refusal)
        self._recipients.append(recipient)
        return None

    def finish(
        self, size: int, *, spam: bool = False, message_id: str = "", head: bytes = b""
    ) -> Refusal | None:
        """End a message of so many octets. None: 250, it is in the mailboxes.

        ``spam``: it is, and is seen to be. ``head``: its header, for those who complain.
        """
        provider, most = self._provider, self._provider.profile.max_message
        if most and size > most:
            provider.count(self.address).too_large += 1
            self.abandon()
            return self._refuse(provider.say("too-large", self.address))
        if spam or provider.is_spam():
            provider.count(self.address).spam += 1
            self.abandon()
            return self._refuse(provider.say("spam", self.address))
        provider.deliver(self.address, self._sender, self._recipients, message_id, head)
        self._day = None
        return None

    def abandon(self) -> None:
        """Forget a message that has begun: RSET, no recipient, a broken connection."""
        if self._day is not None:
            self._provider.give_back(self.address, self._day)
            self._day = None

    def close(self) -> None:
        """End the connection; again: nothing happens. Do not call ``Provider.close`` as well."""
        self.abandon()
        if self._counted:
            self._counted = False
            self._provider.close(self.address)

    def _refuse(self, refusal: Refusal) -> Refusal:
        self.hangs_up = refusal.code == _CLOSING
        return refusal
