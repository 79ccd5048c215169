"""One replay: a reader in a thread, senders beside each other, and what is tried again.

Where a message is: in the corpus. It is done when its answer is in the journal; what is held here is
bounded in octets, retries included, and the reader waits.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
import trio

from relay.errors import StartError
from relay.model import Recipient
from relay.smtp.reply import Reply
from relay.smtp.transaction import RecipientResult
from workers.replay.addresses import Addressing
from workers.replay.files import Reading
from workers.replay.journal import Journal
from workers.replay.line import Answer, Line, NotTaken, Target
from workers.replay.pace import Order, Pace
from workers.replay.parcel import Parcel, pack
from workers.replay.tally import ENDINGS, WORDS, Tally

_HELD = 64 << 20  # octets of messages that are in hand, beside those that are put in order
_BATCH, _BATCH_OCTETS = (
    32,
    1 << 20,
)  # are read together: a thread for each would take more time than it
_LONGEST_WAIT = 60.0  # seconds before a message is tried again
_GRACE = 30.0  # seconds that what is in flight may take, once we are to stop


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done. ``rounds``: how often the corpus is sent; 0: without end."""

    reading: Reading
    addressing: Addressing
    target: Target
    pace: Pace
    field: bytes = b""  # put on top of each message
    connections: int = 20
    per_connection: int = 100
    retries: int = 3
    wait: float = 1.0  # seconds before the first try again; then twice as long each time
    rounds: int = 1
    most: int | None = None  # messages
    lasts: float = math.inf  # seconds


@dataclass
class Run:
    """One replay, while it runs and afterwards."""

    plan: Plan
    journal: Journal | None = None
    tally: Tally = field(default_factory=Tally)
    is_reading: bool = True
    began: float = 0.0
    took: float = 0.0

    def __post_init__(self) -> None:
        self._letters = self._read_letters()
        self._held = 0
        self._freed = trio.Event()
        self._feeding = trio.CancelScope()
        self._working = trio.CancelScope()
        self._taken = 0
        self._was_open = False  # there has been a session
        self._stopping = trio.Event()
        self._hopeless = False  # it was said that there is nobody to talk to

    async def run(self) -> None:
        """Send everything. Raises StartError when there was never a session, or for the corpus."""
        self.began = trio.current_time()
        try:
            with self._working:
                async with trio.open_nursery() as nursery:
                    give, take = trio.open_memory_channel[Parcel](0)
                    nursery.start_soon(self._feed, give, nursery)
                    async with take:
                        async with trio.open_nursery() as senders:
                            for _ in range(self.plan.connections):
                                senders.start_soon(self._send, take.clone())
                    nursery.cancel_scope.cancel()
        finally:
            self.is_reading = False
            self.took = trio.current_time() - self.began

    def stop(self) -> None:
        """Take nothing new; what is in flight is finished, for a while. The second time: at once."""
        if self.stopped:
            self._working.cancel()
        self._stopping.set()
        self._feeding.cancel()
        self._working.deadline = min(self._working.deadline, trio.current_time() + _GRACE)

    @property
    def stopped(self) -> bool:
        """True once ``stop`` was called."""
        return self._stopping.is_set()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return trio.current_time() - self.began

    # -- reading (in a thread, apart from ``_feed``)

    def _read_letters(self) -> Iterator[Parcel]:
        plan, number, done = self.plan, 0, 0
        size = plan.reading.measure() if plan.rounds != 1 else 0
        while not plan.rounds or done < plan.rounds:
            before = number
            for letter in plan.reading.read():
                parcel = pack(letter, number, plan.addressing, plan.field)
                number += 1
                if parcel is None:
                    plan.reading.left.leave("nobody to send it to: --rcpt")
                    continue
                if self._taken == plan.most:
                    return
                self._taken += 1
                parcel.position += done * size
                yield parcel
            done += 1
            if number == before:
                return  # nothing is there: the next round would not be better

    def _read_batch(self) -> list[Parcel]:
        batch: list[Parcel] = []
        size = 0
        for parcel in self._letters:
            batch.append(parcel)
            size += parcel.size
            if len(batch) >= _BATCH or size >= _BATCH_OCTETS:
                break
        return batch

    async def _feed(self, give: "trio.MemorySendChannel[Parcel]", nursery: trio.Nursery) -> None:
        """Hand out what is due, until everything is, or there is a reason to stop."""
        self._again, self._nursery = give.clone(), nursery
        order = Order() if self.plan.pace.factor is not None else None
        self._feeding.deadline = self.began + self.plan.lasts
        async with give:
            with self._feeding:
                while batch := await trio.to_thread.run_sync(self._read_batch):
                    for parcel in batch:
                        for one in [parcel] if order is None else order.put(parcel):
                            await self._hand_out(give, one)
                if order is not None:
                    for one in order.finish():
                        await self._hand_out(give, one)
        self.is_reading = False
        await self._drain()

    async def _drain(self) -> None:
        """Wait until nothing is in hand any more, then let the senders go."""
        while self._held:
            self._freed = trio.Event()
            await self._freed.wait()
        self._again.close()

    async def _hand_out(self, give: "trio.MemorySendChannel[Parcel]", parcel: Parcel) -> None:
        if self._is_done(parcel):
            return
        parcel.due = self.began + self.plan.pace.find_due(parcel)
        while self._held and self._held + parcel.size > _HELD:
            self._freed = trio.Event()
            await self._freed.wait()
        await trio.sleep_until(parcel.due)
        self._held += parcel.size
        self.tally.taken += 1
        try:
            await give.send(parcel)
        except trio.Cancelled:
            self._held -= parcel.size  # it was not begun, and will not be
            self.tally.taken -= 1
            raise

    def _is_done(self, parcel: Parcel) -> bool:
        """Tell whether the journal has a parcel already, and count it then."""
        if self.journal is None:
            return False
        ending = self.journal.find(parcel.number, parcel.name, len(parcel.content))
        if ending is None:
            return False
        self.tally.taken += 1
        self.tally.earlier[WORDS[ending]] += 1
        self.tally.position = max(self.tally.position, parcel.position)
        return True

    # -- sending

    async def _send(self, take: "trio.MemoryReceiveChannel[Parcel]") -> None:
        line = Line(self.plan.target, self.plan.per_connection)
        try:
            async with take:
                async for parcel in take:
                    await self._try(line, parcel)
            await line.hang_up()
        finally:
            line.drop()

    async def _try(self, line: Line, parcel: Parcel) -> None:
        tally = self.tally
        if not parcel.tries and self.plan.pace.is_paced:
            tally.lag = max(tally.lag, trio.current_time() - parcel.due)
        parcel.tries += 1
        try:
            answer = await line.send(parcel.envelope, parcel.content)
        except NotTaken as error:
            if not self._was_open and error.reply is None:
                await self._give_up(error)
            tally.not_opened += 1
            if error.reply is not None:
                tally.note_reply(error.command, error.reply)
            self._go_on(parcel, parcel.envelope.recipients, str(error))
            return
        self._was_open = True
        if answer.opening is not None:
            tally.connections[line.protocol.partition(" ")[0]] += 1
        tally.note_answer(answer, parcel, self.elapsed)
        self._settle(parcel, answer)

    async def _give_up(self, error: NotTaken) -> None:
        """Nobody is there, or not who it should be: say so, once for all senders."""
        if self._hopeless:
            await trio.sleep_forever()
        self._hopeless = True
        target = self.plan.target
        raise StartError(f"{target.name} port {target.port}: {error}") from error

    def _settle(self, parcel: Parcel, answer: Answer) -> None:
        """Count the recipients that have their answer; try again for those who have not."""
        later: list[Recipient] = []
        why = ""
        for recipient, result in zip(parcel.envelope.recipients, answer.results, strict=True):
            if result.accepted:
                parcel.accepted += 1
                self.tally.recipients["accepted"] += 1
                continue
            why = _spell(result)
            if result.temporary:
                later.append(recipient)
            else:
                parcel.refused += 1
                self.tally.recipients["refused"] += 1
        parcel.why = why or parcel.why
        self._go_on(parcel, tuple(later), why)

    def _go_on(self, parcel: Parcel, later: tuple[Recipient, ...], why: str) -> None:
        """End a message, or have it tried again for some of its recipients."""
        if later and parcel.tries <= self.plan.retries and not self.stopped:
            if len(later) < len(parcel.envelope.recipients):
                parcel.envelope = msgspec.structs.replace(parcel.envelope, recipients=later)
            self.tally.retries += 1
            self._nursery.start_soon(self._wait, parcel)
            return
        if later:
            self.tally.recipients["failed"] += len(later)
        parcel.why = why or parcel.why
        if parcel.accepted:
            word = "partly" if later or parcel.refused else "accepted"
        else:
            word = "failed" if later else "refused"
        if self.journal is not None:
            size = len(parcel.content)
            self.journal.write(parcel.number, parcel.name, size, ENDINGS[word])
        self.tally.note_end(parcel, word)
        self._release(parcel)

    async def _wait(self, parcel: Parcel) -> None:
        """Wait, longer each time, and have a message tried again."""
        seconds = min(_LONGEST_WAIT, self.plan.wait * 2 ** min(parcel.tries - 1, 10))
        with trio.move_on_after(seconds):
            await self._stopping.wait()
        await self._again.send(parcel)

    def _release(self, parcel: Parcel) -> None:
        self._held -= parcel.size
        self._freed.set()


def _spell(result: RecipientResult) -> str:
    reply: Reply = result.reply
    ours = " (found out here)" if result.local else ""
    return f"{result.command}: {reply.code} {reply.text}{ours}"
