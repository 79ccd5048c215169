import trio

from relay.model import Delivery, Envelope, Recipient, make_message_id
from relay.store.keys import find_shard
from relay.store.queue import Store


def make_delivery(domain: str = "a.test", *, recipients: int = 1) -> Delivery:
    home = find_shard(domain)
    message_id = make_message_id(home)
    people = tuple(Recipient(b"r%d@%s" % (n, domain.encode())) for n in range(recipients))
    return Delivery(
        id=f"{message_id}.0",
        message_id=message_id,
        tenant="acme",
        pool="default",
        domain=domain,
        envelope=Envelope(b"s@acme.example", people),
        size=5,
        chunks=1,
        accepted=1.0,
        home=home,
        alone=True,
    )


async def claim_one(store: Store, domain: str = "a.test"):
    claimed = await store.claim(
        find_shard(domain), "default", token="t1", most=10, octets=1 << 20, inline=1 << 16
    )
    (claim,) = claimed.claims
    return claim


async def test_accept_then_claim_then_settle(store: Store) -> None:
    delivery = make_delivery(recipients=2)

    assert await store.accept([delivery], b'{"event":"accepted"}', b"hello") is True
    claim = await claim_one(store)
    assert claim.delivery == delivery
    assert claim.body == b"hello"
    assert await store.record_attempt(claim, b"{}").wait() == 1
    assert await store.settle(claim, b'{"event":"delivered"}')

    ledger = (await store.read_ledger())["ledger"]
    assert ledger == {"accepted": 2, "delivered": 2, "bounced": 0, "queued": 0, "unknown": 0}
    assert len(await store.read_story(delivery.message_id)) == 2
    assert await store.settle(claim, b"{}") is False
