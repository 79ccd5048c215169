"""A worker's host dies under load: what it held is taken over, and others send its share."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.estate import CLAIM, open_estate
from tests.kit.tally import find_longest_gap

pytestmark = pytest.mark.heavy

# Claims are renewed until the end, and others look twice in a lease; the rest is a busy machine's.
BOUND = 1.5 * CLAIM + 5.0


def test_its_claims_are_taken_over(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with open_estate(tmp_path) as estate:
        with estate.send() as loads:
            estate.wait_for_traffic(loads)
            estate.hold("w1")
            estate["w1"].kill()
            killed, killed_at = time.time(), time.monotonic()
            estate.release()
            estate.wait(lambda: not estate.list_attempts("w1"), "not taken over", seconds=30)
            estate.wait(lambda: estate.count_dots() > 400, "too little traffic")
        kept = estate.finish(loads)
        events = estate.read_events("unknown", "reclaimed")
        dots = estate.find_dots()
        gap = find_longest_gap(dots, begin=killed_at, end=dots[-1])
        last = estate.find_dots("w1")[-1]
    took = events[-1]["time"] - killed
    print(f"taken over after {took:.1f} s; longest silence {gap:.1f} s; {kept}")  # noqa: T201
    record_property("takeover_s", round(took, 2))
    assert events[0]["time"] >= killed, "somebody who lived was taken for dead"
    assert took <= BOUND
    assert last <= killed_at + 0.5
    assert gap < CLAIM, "the others waited for it"
