"""Adding to a message's story what an operator did to it; transitions write the rest themselves."""

from relay.config import Config
from relay.model import Claim
from relay.store.keys import make_key
from relay.store.link import Link

_DAY = 86_400_000


async def append(link: Link, config: Config, claim: Claim, event: bytes) -> None:
    """Add an encoded event while the delivery is claimed: then its story is there.

    The part of a story in a shard that is not the message's home may not be: it gets the lifetime
    that transitions give it, so that nothing stays for ever. May raise as the link does.
    """
    key = make_key(claim.shard, "story", claim.delivery.message_id)
    written = link.send("APPEND", key, event + b"\n")
    if not claim.delivery.alone:
        seconds = config.delivery.expire + max(600.0, config.store.remember)
        await link.call("PEXPIRE", key, int(seconds * 1000) + 2 * _DAY)
    await written.wait()
