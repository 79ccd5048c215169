"""What has been found out about one message while rules look at it: each thing once, when first asked.

Nothing is read, taken apart or shown to a scanner before a rule wants it. What could not be found
out is remembered, too: the next rule hears the same.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import TypeVar, TypeVarTuple, cast

import trio

from relay.address import find_domain, name_sender
from relay.config.pattern import Pattern
from relay.mime import Part, Unreadable, read_message, unfold
from relay.mime.words import decode_words
from relay.policy.contents import MAX_HEAD, MAX_VALUE, read_fields, read_names, read_types
from relay.policy.facts import Facts
from relay.scan.inquiry import Inquiry, Scan, ScanFailed
from relay.scan.scanner import Scanner

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

# What is larger is looked at in a thread: a hop costs 0.1 ms, a MiB of small parts a second.
_INLINE_OCTETS = 64 * 1024
# Steps that a search may take on the loop, at 7 ns at worst. Usual headers and patterns take 1,000.
_INLINE_STEPS = 500_000


class OutOfTime(Exception):
    """There is no time left to find out more."""


class Evidence:
    """One message, as rules see it."""

    def __init__(
        self,
        facts: Facts,
        scanners: Mapping[str, Scanner],
        threads: trio.CapacityLimiter,
        *,
        deadline: float,
    ) -> None:
        """``threads`` is shared by all messages: hostile ones must not take every thread.

        ``deadline``: trio time. Whatever has to wait beyond it raises OutOfTime.
        """
        self.facts = facts
        self.scans: dict[str, Scan] = {}  # what scanners have said
        self._scanners = scanners
        self._threads = threads
        self._deadline = deadline
        self._fields: dict[bytes, list[bytes]] | None = None  # of the head
        self._known: dict[str, object] = {}  # by what was asked; an Unreadable, if that came of it
        self._failed: dict[str, ScanFailed] = {}

    # -- the envelope

    @cached_property
    def senders(self) -> frozenset[str]:
        """What a rule may call the sender: its address, and all of its domain; in lower case."""
        return name_sender(self.facts.sender)

    @cached_property
    def domains(self) -> frozenset[str]:
        """What a rule may call the recipients' domains: "a.b", "*.b" for what is below b, "*"."""
        found: set[str] = set()
        for recipient in self.facts.recipients:
            domain = find_domain(recipient)
            if domain is not None and domain not in found:
                found.add(domain)
                labels = domain.split(".")
                found.update("*." + ".".join(labels[n:]) for n in range(1, len(labels)))
        return frozenset(found | {"*"})

    # -- the inside: each raises Unreadable

    async def find_values(self, name: bytes) -> list[bytes]:
        """Return the values of all header fields of this name (in lower case), unfolded."""
        if self._fields is None:
            head = self.facts.head
            # One that is too long is refused here, for each rule: no thread is needed for that.
            large = _INLINE_OCTETS < len(head) <= MAX_HEAD
            self._fields = await self._run(large, read_fields, head)
        return [unfold(value).strip(b" \t") for value in self._fields.get(name, ())]

    async def find_types(self) -> frozenset[str]:
        """Return the types of all parts, and "image/*" for each "image/png"."""
        return await self._remember("types", self._read_types)

    async def find_names(self) -> str:
        """Return the names of parts and of what is in archives, a line each, for a names' pattern."""
        return await self._remember("names", self._read_names)

    async def search_values(self, pattern: Pattern, values: Sequence[bytes]) -> bool:
        """Tell whether a pattern occurs in one of these, as they are written or as they are read."""
        if any(len(value) > MAX_VALUE for value in values):
            raise Unreadable(f"a header field has more than {MAX_VALUE} octets")
        steps = pattern.program * sum(map(len, values))
        return await self._run(steps > _INLINE_STEPS, _search_values, pattern, values)

    async def search_names(self, pattern: Pattern) -> bool:
        """Tell whether a pattern of names fits one of the names."""
        names = await self.find_names()
        steps = pattern.program * len(names)
        # Nothing has no names, not one that is empty.
        return bool(names) and await self._run(steps > _INLINE_STEPS, pattern.is_in, names)

    # -- scanners

    async def ask(self, name: str) -> Scan:
        """Return what a scanner says. Raises ScanFailed."""
        if name in self._failed:
            raise self._failed[name]
        if name not in self.scans:
            try:
                self.scans[name] = await self._in_time(
                    self._scanners[name].scan, await self._inquire()
                )
            except ScanFailed as error:
                self._failed[name] = error
                raise
        return self.scans[name]

    def defers(self, name: str) -> bool:
        """Tell whether a message waits for a scanner that is away."""
        return self._scanners[name].on_failure == "defer"

    async def _inquire(self) -> Inquiry:
        facts = self.facts
        return Inquiry(
            message=await self._read(),
            sender=facts.sender,
            recipients=facts.recipients,
            client=facts.client,
            hello=facts.hello,
            message_id=facts.message_id,
        )

    # -- how it is found out

    async def _read(self) -> bytes:
        return await self._remember("octets", partial(self._in_time, self.facts.read))

    async def _read_structure(self) -> Part:
        octets = await self._read()
        return await self._run(len(octets) > _INLINE_OCTETS, read_message, octets)

    async def _read_types(self) -> frozenset[str]:
        octets = await self._read()
        root = await self._remember("structure", self._read_structure)
        return await self._run(len(octets) > _INLINE_OCTETS, read_types, octets, root)

    async def _read_names(self) -> str:
        octets = await self._read()
        root = await self._remember("structure", self._read_structure)
        # Always in a thread: 64 KiB of an archive can be 64 MiB of what has to be unpacked.
        return await self._run(True, read_names, octets, root)

    async def _remember(self, what: str, find: Callable[[], Awaitable[_T]]) -> _T:
        """Return what is known, or find it out; raise again what was raised."""
        if what not in self._known:
            try:
                self._known[what] = await find()
            except Unreadable as error:
                self._known[what] = error
        known = self._known[what]
        if isinstance(known, Unreadable):
            raise known
        return cast("_T", known)

    async def _run(self, in_thread: bool, function: Callable[[*_Ts], _T], *arguments: *_Ts) -> _T:
        """Call here or in a thread.

        A thread whose message has run out of time goes on to its end, and keeps its place until then.
        """
        if not in_thread:
            return function(*arguments)

        async def run() -> _T:
            return await trio.to_thread.run_sync(
                function, *arguments, limiter=self._threads, abandon_on_cancel=True
            )

        return await self._in_time(run)

    async def _in_time(self, find: Callable[[*_Ts], Awaitable[_T]], *arguments: *_Ts) -> _T:
        """Await what may have to wait, and nothing else: a scope costs more than a look at a field."""
        with trio.CancelScope(deadline=self._deadline):
            return await find(*arguments)
        raise OutOfTime


def _search_values(pattern: Pattern, values: Sequence[bytes]) -> bool:
    """A pattern means what a reader sees; but somebody may have written it for what is sent."""
    for value in values:
        raw = value.decode("utf-8", "replace")
        if pattern.is_in(raw):
            return True
        if "=?" in raw and (read := decode_words(value)) != raw and pattern.is_in(read):
            return True
    return False
