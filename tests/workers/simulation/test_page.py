"""The report: tables as text, and a page with a picture for each provider."""

import io
import struct
from collections.abc import Callable

from rich.console import Console

from relay.config.units import Rate, Rates, Seconds
from tests.kit.redis import Server
from tests.workers.simulation.conftest import make_profile
from workers.emulation.providers.profile import Blocked, Change
from workers.simulation.figures import make_figures
from workers.simulation.mix import Mix
from workers.simulation.page import make_page
from workers.simulation.plots import draw_site
from workers.simulation.run import Run, simulate
from workers.simulation.table import show, show_seconds


def run_two(make_mix: Callable[..., Mix], url: str) -> list[Run]:
    profile = make_profile(
        rate=Rate(30, 60, 5),
        changes=(Change(at=Seconds(1800), rate=Rates((Rate(15, 60, 5),))),),
        blocked=(Blocked(address="192.0.2.1", at=Seconds(2400), lasts=Seconds(600)),),
    )
    mix = make_mix(profile, 40_000, 5400, about="Two & a half")
    return [simulate(mix, 1, "loop", url), simulate(mix, 1, "oracle", url)]


def test_a_page_has_tables_and_pictures(make_mix: Callable[..., Mix], server: Server) -> None:
    runs = run_two(make_mix, server.url)
    figures = [make_figures(run) for run in runs]

    page = make_page("a <title>", runs, figures)
    text = io.StringIO()
    show(Console(file=text, width=140), figures)

    assert "a &lt;title&gt;" in page
    assert "Two &amp; a half" in page
    assert page.count("data:image/png;base64,") == 1
    assert "100.0%" in text.getvalue()
    assert "p, oracle: its limit went from 1.00/s to 0.50/s" in text.getvalue()
    assert "p, loop: a was blocked for" in text.getvalue()
    picture = draw_site(runs, "p")
    assert picture.startswith(b"\x89PNG")
    assert struct.unpack(">II", picture[16:24]) == (1100, 950)


def test_durations_are_for_people() -> None:
    shown = [show_seconds(s) for s in (0.25, 59, 600, 7200, 200_000)]

    assert shown == ["0.2 s", "59.0 s", "10 min", "2.0 h", "2.3 d"]
