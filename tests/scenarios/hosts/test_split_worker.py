"""A worker is cut off from the store for longer than its leases, and not from the hosts it sends to.

The classic split: for the others it is dead, and it may still do harm. It must send nothing that it
cannot record, and settle nothing that was passed on.
"""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.estate import CLAIM, DOMAINS, MX, PORT, TIMEOUT, open_estate

pytestmark = pytest.mark.heavy

CONNECTIONS = 3  # fewer than would like to
SITE = f"""
[[site]]
name = "small"
domains = ["small.test"]
connections = {CONNECTIONS}
"""
AWAY = 2 * CLAIM + 2.0
TAKEN_OVER = 1.5 * CLAIM + 5.0
BACK = 20.0  # until it sends again; a second or two, where nothing else runs


@pytest.mark.parametrize("how", ["cut", "deafen"])
def test_a_worker_without_the_store(
    tmp_path: Path, how: str, record_property: Callable[[str, object], None]
) -> None:
    routes = {"small.test": f"{MX[2]}:{PORT}"}
    with open_estate(tmp_path, site=SITE, routes=routes) as estate:
        small, domains = estate.mailrooms[2], ["small.test", DOMAINS[0], "small.test", DOMAINS[1]]
        with estate.send(domains=domains, pause=0.04) as loads:
            estate.wait_for_traffic(loads)
            estate.hold("w1")
            getattr(estate["w1"], how)("store")
            began, began_at = time.time(), time.monotonic()
            estate.wait(lambda: not estate.list_attempts("w1"), "not taken over", seconds=30)
            time.sleep(max(0.0, began_at + AWAY - time.monotonic()))
            in_the_dark = [when for when in estate.find_dots("w1") if when > began_at + 2 * TIMEOUT]
            waiting = small.kept.total()
            estate.release()  # now it hears its 250s, and can tell nobody
            time.sleep(TIMEOUT)
            estate["w1"].mend("store")
            mended = time.monotonic()
            sent = estate.count_dots("w1")
            estate.wait(lambda: estate.count_dots("w1") > sent, "it does not come back", seconds=30)
            back = time.monotonic() - mended
            estate.wait_for_traffic(loads)
        kept = estate.finish(loads)
        events = estate.read_events("unknown", "reclaimed")
    took = events[-1]["time"] - began
    print(  # noqa: T201
        f"taken over after {took:.1f} s; back after {back:.1f} s; {kept}; "
        f"{small.most} connections, {waiting} wait for an answer"
    )
    record_property("takeover_s", round(took, 2))
    record_property("back_s", round(back, 2))
    assert not in_the_dark, "it went on sending what it could not record"
    assert took <= TAKEN_OVER
    assert back <= BACK
    # Its leases have ended. What waits for the answer to its dot is not closed for that: it would come
    # twice. All others are.
    assert small.most <= CONNECTIONS + waiting
