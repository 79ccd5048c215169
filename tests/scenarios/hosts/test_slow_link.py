"""A worker is far away, from the store or from the hosts it sends to, and the way loses packets.

Each packet takes 100 ms, and one in fifty is lost, in each direction.
"""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.estate import WORKERS, open_estate

pytestmark = pytest.mark.heavy

DELAY, LOSS = 0.1, 0.02  # s, share
MEASURED = 8.0  # s


@pytest.mark.parametrize("network", ["store", "mail"])
def test_a_worker_far_away(
    tmp_path: Path, network: str, record_property: Callable[[str, object], None]
) -> None:
    # What is lost is sent again after half a second, then after one more: that is no silence yet.
    with open_estate(tmp_path, claim=15, timeout=5) as estate:
        estate["w1"].slow(network, delay=DELAY, loss=LOSS)
        with estate.send() as loads:
            estate.wait_for_traffic(loads, seconds=60)
            before = {name: estate.count_dots(name) for name in WORKERS}
            time.sleep(MEASURED)
            rates = {
                name: round((estate.count_dots(name) - count) / MEASURED, 1)
                for name, count in before.items()
            }
        kept = estate.finish(loads)
    print(f"messages/s: {rates}; {kept}")  # noqa: T201
    record_property("messages_per_second", rates)
    assert kept.twice == kept.unknown == 0
    assert rates["w1"] >= 0.5
    assert min(rates["w2"], rates["w3"]) >= 5
