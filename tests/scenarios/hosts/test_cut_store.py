"""The store's host is cut off from everybody for a while: all wait, recover, and nothing is missing."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.estate import CLAIM, INGRESS, TIMEOUT, open_estate

pytestmark = pytest.mark.heavy

AWAY = 20.0  # s: several leases
BACK = 3 * TIMEOUT + 1.5 * CLAIM + 10.0  # until mail flows everywhere


def test_nobody_has_a_store(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    with open_estate(tmp_path) as estate:
        with estate.send() as loads:
            estate.wait_for_traffic(loads)
            estate["store"].cut("store")
            cut = time.monotonic()
            for name in INGRESS:
                estate.wait(lambda: estate.try_ingress(name) in (451, 421), f"{name} goes on")  # noqa: B023
            accepted = sum(len(load.accepted) for load in loads.values())
            time.sleep(max(0.0, cut + AWAY - time.monotonic()))
            assert sum(len(load.accepted) for load in loads.values()) == accepted
            estate["store"].mend("store")
            mended = time.monotonic()
            estate.wait_for_traffic(loads, seconds=60)
            back = time.monotonic() - mended
        kept = estate.finish(loads)
    print(f"mail flows everywhere {back:.1f} s after; {kept}")  # noqa: T201
    record_property("back_s", round(back, 2))
    assert back <= BACK
    # Nobody died: what hosts took in the dark is settled by who sent it.
    assert kept.twice == 0
