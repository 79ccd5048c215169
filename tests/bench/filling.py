"""Mail straight into the store, as the ingress would put it there, without the SMTP before it."""

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import trio

from relay.events import encode_event
from relay.model import Delivery, Envelope, Recipient, make_message_id
from relay.store.keys import find_shard
from relay.store.queue import Store

# As many as wait for the store at a time: their commits share an fsync.
_TASKS = 200
_LINE = b"0123456789 abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ.\r\n"


def make_body(octets: int) -> bytes:
    """Return a message of about so many octets."""
    head = b"From: alice@acme.example\r\nSubject: backlog\r\n\r\n"
    return head + _LINE * max(1, (octets - len(head)) // len(_LINE))


def make_delivery(domain: str, size: int) -> Delivery:
    """Return a message to one recipient of a domain."""
    home = find_shard(domain)
    message_id = make_message_id(home)
    return Delivery(
        id=f"{message_id}.0",
        tenant="acme",
        pool="default",
        domain=domain,
        envelope=Envelope(b"alice@acme.example", (Recipient(f"bob@{domain}".encode()),)),
        size=size,
        chunks=1,
        accepted=time.time(),
        home=home,
        alone=True,
    )


def make_event(delivery: Delivery) -> bytes:
    """Return the event that the ingress keeps with a message that it has accepted."""
    people = [recipient.address.decode() for recipient in delivery.envelope.recipients]
    return encode_event(
        {
            "time": delivery.accepted,
            "event": "accepted",
            "id": delivery.message_id,
            "tenant": delivery.tenant,
            "sender": delivery.envelope.sender.decode(),
            "recipients": people,
            "size": delivery.size,
            "client": "127.0.0.1",
            "hello": "client.example.net",
            "tls": "",
        }
    )


async def fill(
    store: Store,
    domains: Iterable[str],
    *,
    octets: int = 1024,
    show: Callable[[int], None] = lambda done: None,
    keep: int = 0,
    tasks: int = _TASKS,
) -> list[Delivery]:
    """Accept a message for each of the domains; return the last ``keep`` of them.

    ``show`` is told from time to time how many there are.
    """
    body = make_body(octets)
    kept: deque[Delivery] = deque(maxlen=keep)
    numbers = itertools.count(1)
    rest = iter(domains)

    async def accept_some() -> None:
        for domain in rest:  # shared: each takes the next
            delivery = make_delivery(domain, len(body))
            await store.accept([delivery], make_event(delivery), body)
            kept.append(delivery)
            if (done := next(numbers)) % 1000 == 0:
                show(done)

    async with trio.open_nursery() as nursery:
        for _ in range(tasks):
            nursery.start_soon(accept_some)
    return list(kept)


def spread(pattern: str, domains: int, count: int) -> Iterator[str]:
    """Yield ``count`` domains, those of ``pattern`` ("d{}.test") in turn."""
    for number in range(count):
        yield pattern.format(number % domains)


async def wait_until_quiet(store: Store, *, seconds: float = 60) -> None:
    """Wait until the store does not rewrite its append-only file any more."""
    for _ in range(int(seconds * 5)):
        if b"aof_rewrite_in_progress:1" not in await store.link.call("INFO", "persistence"):
            break
        await trio.sleep(0.2)
