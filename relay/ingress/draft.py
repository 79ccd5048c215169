"""A message on its way in: what is known of it, and where its octets are.

A small one is in memory until it is accepted. A large one goes to the store in parts while it
arrives; they belong to no message yet, and vanish after an hour if none is accepted. Who has to see
all of it (a rule, a scanner, the archive) gets it read back.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from relay.config.schema import Tenant
from relay.config.units import Priority
from relay.ingress.admission import Refusal
from relay.ingress.demand import Demand, find_demand
from relay.ingress.head import cut_head, find_message_id, take_head
from relay.ingress.proof import Evidence, Judge
from relay.ingress.secret import Secrets
from relay.ingress.trace import count_hops
from relay.model import Recipient
from relay.smtp.command import Mail
from relay.store.queue import INLINE_OCTETS

Trouble = tuple[int, str, str]  # a reply: code, enhanced status, text

_HEAD_TOO_LONG = (552, "5.3.4", f"Header too long: at most {INLINE_OCTETS} octets")


@dataclass(slots=True)
class Draft:
    """What has come of one message. ``candidates``: whose it may be (proof.py)."""

    mail: Mail
    candidates: tuple[Tenant, ...]
    begun: float  # trio time
    recipients: dict[str, list[Recipient]] = field(default_factory=dict)  # by domain
    message_id: str = ""
    home: int = 0
    trace: bytes = b""  # our Received line, in front of everything
    received: int = 0  # octets from the peer
    size: int = 0  # octets as stored
    parts: int = 0  # stored already
    body: bytes = b""  # not stored yet
    head: bytes = b""  # the header block as stored, without ``trace``, with its last CRLF
    hops: int = 0
    name: str = ""  # the value of its Message-ID field: what its sender calls it
    priority: Priority = "normal"
    tls: Demand = ""
    tail: bytes = b"\r\n"  # the last two octets so far
    reserved: int = 0  # octets of memory that the process counts as ours
    evidence: Evidence | None = None
    trouble: Trouble | None = None  # the reply that awaits its end
    refusal: Refusal | None = None  # why its sender may send nothing but reports (mailbox.py)
    told: bool = False  # ... which the log has
    is_report: bool = False  # all its recipients are of mailbox domains of ours

    def begin(self, message_id: str, home: int, trace: bytes) -> None:
        """The content is next."""
        self.message_id, self.home, self.trace = message_id, home, trace
        self.body = trace
        self.size = len(trace)

    def add(self, octets: bytes) -> None:
        """Take the next octets of the content."""
        self.received += len(octets)
        self.size += len(octets)
        self.tail = (self.tail + octets[-2:])[-2:]
        if self.trouble is None:
            self.body += octets

    def fail(self, trouble: Trouble) -> None:
        """Nothing will come of it: the rest is read, and forgotten."""
        self.trouble = self.trouble or trouble
        self.body = b""

    @property
    def count(self) -> int:
        """How many recipients it has."""
        return sum(map(len, self.recipients.values()))

    async def look(self, judge: Judge) -> None:
        """Look at what has come: the first time at the head, and always at the body for evidence.

        The first look comes with the whole of a small message, or with the first part of a large one.
        """
        if self.evidence is not None:
            if self.evidence.needs_body:
                await self.evidence.feed(self.body)
            return
        start = len(self.trace)
        # From the blank line (RFC 5322 §2.1); or the message has no body. The virtual CRLF in
        # front is that of the trace: an empty head begins with the blank line.
        blank = self.body.find(b"\r\n\r\n", start - 2)
        if blank < 0 and len(self.body) > INLINE_OCTETS:
            # What is behind this part nobody here would look at, neither for a secret to take off nor
            # for what a rule wants to see. Who writes the message decides where the parts are cut.
            self.fail(_HEAD_TOO_LONG)
            return
        end = blank + 2 if blank >= 0 else len(self.body)
        head = self.body[start:end]
        self.evidence = Evidence(judge, self.candidates, head)
        if self.evidence.needs_body:
            await self.evidence.feed(self.body[end + 2 :])
        self._read_head(end)
        self._remove_secrets(judge.secrets, head, end)

    def _read_head(self, end: int) -> None:
        """The head shows a loop's hops, what the message asks of TLS, and how its sender calls it."""
        lowered = cut_head(self.body[:end])
        self.hops = count_hops(lowered)
        self.tls = find_demand(self.body, lowered, requiretls=self.mail.requiretls)
        self.name = find_message_id(self.body, lowered)

    def _remove_secrets(self, secrets: Secrets, head: bytes, end: int) -> None:
        """Take off what proves a tenant. Whose it is, is not known yet: of all that it may be."""
        self.head = secrets.remove(head, self.candidates)
        if len(self.head) != len(head):
            self.body = self.trace + self.head + self.body[end:]
            self.size -= len(head) - len(self.head)
            self.tail = self.body[-2:]  # what was taken off may have been the end

    async def read(self, read_part: Callable[[int], Awaitable[bytes | None]]) -> bytes | None:
        """Return the message as it will be stored, without our trace; None: parts are gone."""
        if not self.parts:
            return self.body[len(self.trace) :]
        pieces = []
        for number in range(self.parts):
            if (piece := await read_part(number)) is None:
                return None
            pieces.append(piece)
        pieces.append(self.body)
        return b"".join(pieces)[len(self.trace) :]

    def replace(self, message: bytes) -> Iterator[bytes]:
        """Have ``message`` take its place; yields the parts to store over those of before, if any.

        When the last is stored, ``parts`` says how many there are.
        """
        whole = self.trace + message
        self.size = len(whole)
        self.tail = (b"\r\n" + whole)[-2:]
        self.head = take_head(message)
        if len(whole) <= INLINE_OCTETS and not self.parts:
            self.body = whole
            return
        # What was in parts stays in parts, also when it has become small: the store does not put a
        # body in the place of a part that it has (``Store.accept``), and would keep the old one.
        self.parts = 0
        self.body = b""
        for start in range(0, len(whole), INLINE_OCTETS):
            yield whole[start : start + INLINE_OCTETS]
            self.parts += 1
