"""Was everything kept that senders were promised? What they saw, what hosts got, what the books say."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import redis

from relay.events import decode_event
from relay.store.keys import SHARDS, make_key
from tests.kit.gateway import Ledger
from tests.kit.load import Load


@dataclass(frozen=True, slots=True)
class Kept:
    """How it went: recipients that were promised, those that got it again, those nobody knew of."""

    promised: int
    twice: int
    unknown: int

    def __str__(self) -> str:
        return f"{self.promised} promised, {self.twice} twice, {self.unknown} of unknown outcome"


def read_story(client: redis.Redis, message_id: str) -> list[dict[str, Any]]:
    """Return everything that happened to a message."""
    return [
        decode_event(line)
        for shard in range(SHARDS)
        for line in (client.get(make_key(shard, "story", message_id)) or b"").splitlines()
    ]


def _is_doubtful(event: dict[str, Any]) -> bool:
    """Tell whether an event says that a host may have the message, and nobody knows."""
    broken = [r for r in event.get("recipients", ()) if isinstance(r, dict)]
    return event["event"] == "unknown" or (
        event["event"] == "deferred" and any(r["command"] == "." and not r["code"] for r in broken)
    )


def check_promises(
    client: redis.Redis,
    loads: Iterable[Load],
    arrived: Mapping[tuple[str, str], int],
    ledger: Ledger,
    *,
    others: Iterable[str] = (),
) -> Kept:
    """Hold what arrived, by mark and domain, against what was accepted. Nothing may be under way.

    ``others``: marks of what may have arrived besides.

    Twice may come only what was between the dot and its answer when somebody died or was cut off,
    and is known to have been.
    """
    loads = list(loads)
    accepted = {mark: there for load in loads for mark, there in load.accepted.items()}
    unknown = {mark for load in loads for mark in load.unknown} | set(others)
    counts = Counter(arrived)
    promised = {(mark, domain) for mark, (_, domains) in accepted.items() for domain in domains}
    lost = [one for one in promised if not counts[one]]
    assert not lost, f"lost: {lost}"
    # What got no 250 may have arrived; nothing else may.
    assert {mark for mark, _ in counts} <= accepted.keys() | unknown
    assert len(promised) <= ledger.accepted <= len(promised) + 2 * len(unknown)
    again = {mark for (mark, _), count in counts.items() if count > 1}
    for mark in again & accepted.keys():
        story = read_story(client, accepted[mark][0])
        assert any(map(_is_doubtful, story)), f"{mark} came twice, and nobody knows why: {story}"
    twice = sum(count - 1 for count in counts.values())
    assert twice <= ledger.unknown
    return Kept(len(promised), twice, ledger.unknown)
