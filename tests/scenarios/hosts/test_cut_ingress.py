"""An ingress is cut off from the store: it says so, loses nothing, and the other goes on.

Cut both ways, or only what comes back: then the store has accepted what the ingress could not tell.
"""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.estate import TIMEOUT, open_estate

pytestmark = pytest.mark.heavy

AWAY = 8.0  # s
# It looks at the store once a second, and tries again twice in `timeout` or less.
BACK = 3 * TIMEOUT + 8.0


@pytest.mark.parametrize("how", ["cut", "deafen"])
def test_an_ingress_without_the_store(
    tmp_path: Path, how: str, record_property: Callable[[str, object], None]
) -> None:
    with open_estate(tmp_path) as estate:
        with estate.send() as loads:
            estate.wait_for_traffic(loads)
            getattr(estate["in1"], how)("store")
            began = time.monotonic()
            estate.wait(
                lambda: estate.try_ingress("in1") in (451, 421), "it goes on as if nothing were"
            )
            told = time.monotonic() - began
            # Whoever waits for an answer to its dot, or comes now, is not told yes.
            here, there = (len(loads[name].accepted) for name in ("in1", "in2"))
            time.sleep(max(0.0, began + AWAY - time.monotonic()))
            assert len(loads["in1"].accepted) == here
            assert len(loads["in2"].accepted) > there + 20
            estate["in1"].mend("store")
            mended = time.monotonic()
            estate.wait(
                lambda: len(loads["in1"].accepted) > here, "it does not come back", seconds=30
            )
            back = time.monotonic() - mended
            estate.wait_for_traffic(loads)
        kept = estate.finish(loads)
    print(f"{told:.1f} s until 451; back after {back:.1f} s; {kept}")  # noqa: T201
    record_property("told_s", round(told, 2))
    record_property("back_s", round(back, 2))
    assert kept.twice == kept.unknown == 0
    assert told <= 2 * TIMEOUT + 4.0
    assert back <= BACK
