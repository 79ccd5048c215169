"""Nothing fails: three hosts share what one site allows, and never take more of it."""

from pathlib import Path

import pytest

from relay.config.units import parse_rate
from tests.kit.estate import DOMAINS, MX, PORT, SOURCES, WORKERS, open_estate
from tests.kit.tally import count_windows

pytestmark = pytest.mark.heavy

RATE, CONNECTIONS = parse_rate("40/s"), 4
SITE = f"""
[[site]]
name = "small"
domains = ["small.test"]
rate = "{RATE.count}/s"
connections = {CONNECTIONS}
"""
WINDOW = 4.0  # s
# What was granted before a window, and arrives in it: sessions have a few in hand.
IN_HAND = 12
COUNT = 400


def test_limits_hold_over_all_hosts(tmp_path: Path) -> None:
    with open_estate(tmp_path, site=SITE, routes={"small.test": f"{MX[2]}:{PORT}"}) as estate:
        small = estate.mailrooms[2]
        with estate.send(domains=["small.test", DOMAINS[0], "small.test", DOMAINS[1]]) as loads:
            estate.wait(lambda: len(small.dots) > COUNT, "too little traffic", seconds=40)
        kept = estate.finish(loads)
    times = [when for when, _ in small.dots]
    fewest, most = count_windows(times, seconds=WINDOW, begin=times[0], end=times[COUNT])
    clients = {client for _, client in small.dots}
    print(f"{kept}; {fewest} to {most} in {WINDOW:.0f} s, {small.most} connections")  # noqa: T201
    assert kept.twice == kept.unknown == 0
    assert small.most <= CONNECTIONS
    assert most <= RATE.count * WINDOW + RATE.burst + IN_HAND
    for name, sources in WORKERS.items():
        assert clients & set(sources.values()), f"{name} had no part in it"
    assert clients <= set(SOURCES.values())
