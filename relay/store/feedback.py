"""Complaints and late bounces: counted once for each message, kind and recipient, then told to workers.

Marking it, the line in the message's story and the signal are one script under the tag of the
message's home. If the process dies before it ran, nothing has happened, and the reporter, who has no
250, sends the report again. If it dies afterwards, or the reply is lost, the report comes again and has
been counted: never twice, never lost. Who takes signals has them, and the store has not: if a worker
dies before it has made something of them, these few are lost. They are evidence, not mail.
"""

from collections.abc import Iterable

import msgspec

from relay.config import Config
from relay.model import read_home
from relay.store.keys import SHARDS, make_key
from relay.store.link import Link

# Signals of one shard that wait for a worker: some MiB, and more complaints than a day should have.
_MOST = 10_000
_DAY = 86_400_000


class Complaint(msgspec.Struct, frozen=True, omit_defaults=True, tag="complaint"):
    """Somebody complains about a message of ours. What is not known is empty."""

    message_id: str
    tenant: str
    source: str = ""
    site: str = ""
    recipient: str = ""  # as the message was addressed
    kind: str = ""  # "abuse", "fraud", "virus", "opt-out"


class LateBounce(msgspec.Struct, frozen=True, omit_defaults=True, tag="bounce"):
    """A host that had taken a message could not deliver it. What is not known is empty."""

    message_id: str
    tenant: str
    source: str = ""
    site: str = ""
    recipient: str = ""
    status: str = ""  # "5.1.1"
    text: str = ""  # what the host said that gave up


Signal = Complaint | LateBounce

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Signal).decode


class Feedback:
    """Counts what comes back. Raises StoreUnavailable and StoreError, as the link does."""

    def __init__(self, link: Link, config: Config) -> None:
        self._link = link
        # As long as a story can last (queue.py), or a repetition would be news.
        seconds = config.delivery.expire + max(600.0, config.store.remember)
        self._lifetime = int(seconds * 1000) + 2 * _DAY

    async def count(
        self, message_id: str, what: str, event: bytes, signal: Signal | None = None
    ) -> bool | None:
        """Count a report about a message; True: it was the first of its kind, ``what``.

        Then the event stands in the story, and workers will hear the signal. False: it has been
        counted before. None: the message is not known, or not any more.
        """
        done = await self._link.run(
            "feedback",
            make_key(read_home(message_id), "ledger"),
            message_id,
            what,
            event,
            b"" if signal is None else _encode(signal),
            _MOST,
            self._lifetime,
        )
        return None if done < 0 else bool(done)


async def take_signals(link: Link, most: int) -> list[Signal]:
    """Take at most ``most`` signals, of each shard the oldest first: nobody else will have them.

    Two round trips; one when there is nothing. May raise as the link does.
    """
    keys = [make_key(shard, "signals") for shard in range(SHARDS)]
    lengths = [link.send("LLEN", key) for key in keys]
    left, asked = most, []
    for key, length in zip(keys, lengths, strict=True):
        wanted = min(left, int(await length.wait()))
        left -= wanted
        if wanted:
            asked.append(link.send("RPOP", key, wanted))
    found: list[Signal] = []
    for reply in asked:
        found += _read(await reply.wait() or ())  # None: another worker was faster
    return found


def _read(lines: Iterable[bytes]) -> Iterable[Signal]:
    for line in lines:
        try:
            yield _decode(line)
        except msgspec.MsgspecError:
            continue  # of another version; there will be more
