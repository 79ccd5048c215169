"""Slips: deliveries as the store keeps them.

A slip is one line of what the scripts must know (scripts/queue/_prelude.lua), and the rest as a record.
A million of them may wait: nothing is said twice, and what the queue's name says is not said at all.
"""

import msgspec

from relay.model import Delivery, Envelope
from relay.store.keys import make_queue, read_queue

_encode = msgspec.msgpack.Encoder().encode


def find_queue(delivery: Delivery) -> str:
    """Return the queue that a delivery waits in when any source may send it."""
    return make_queue(delivery.tenant, delivery.domain, delivery.priority)


class _Record(msgspec.Struct, frozen=True, array_like=True):
    """What a slip holds beside its first line. The queue's name says tenant and domain."""

    accepted: float  # first: scripts/queue/seize.lua reads it where it stands
    envelope: Envelope
    home: int
    newline: bool


_read_record = msgspec.msgpack.Decoder(_Record).decode


def write_record(delivery: Delivery) -> bytes:
    """Write what a slip holds beside its first line."""
    record = _Record(delivery.accepted, delivery.envelope, delivery.home, delivery.newline)
    return _encode(record)


def make_slip(delivery: Delivery, *, here: bool) -> bytes:
    """Write a new delivery. ``here``: the message's bytes are in the same shard."""
    flags = "a" * delivery.alone + "h" * here + "n" * delivery.notice or "-"
    count = len(delivery.envelope.recipients)
    numbers = f"{count} {delivery.size} {delivery.chunks} {flags} {delivery.pool} 0 0"
    return f"{delivery.id} {numbers}\n".encode("ascii") + write_record(delivery)


def read_slip(queue: bytes, slip: bytes) -> tuple[Delivery, int]:
    """Read a slip; with it the attempts so far."""
    head, _, rest = slip.partition(b"\n")
    identity, _, size, chunks, flags, pool, attempts, _ = head.decode("ascii").split(" ")
    record = _read_record(rest)
    place = read_queue(queue.decode())
    delivery = Delivery(
        id=identity,
        tenant=place.tenant,
        pool=pool,
        domain=place.domain,
        envelope=record.envelope,
        size=int(size),
        chunks=int(chunks),
        accepted=record.accepted,
        home=record.home,
        alone="a" in flags,
        newline=record.newline,
        notice="n" in flags,
        priority=place.priority,
    )
    return delivery, int(attempts)
