"""A comparison as one HTML file, pictures included."""

import base64
import html
import io
from collections.abc import Sequence

from rich.console import Console

from workers.simulation.figures import Figures
from workers.simulation.plots import can_plot, draw_site
from workers.simulation.run import Run
from workers.simulation.table import show

_STYLE = """\
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 1150px; padding: 0 1em; color: #222; }
pre { font-size: 12px; line-height: 1.35; overflow-x: auto; }
img { max-width: 100%; }
"""


def make_page(title: str, runs: Sequence[Run], figures: Sequence[Figures]) -> str:
    """Return the page: the tables, and a picture for each provider where they can be drawn."""
    text = io.StringIO()
    show(Console(file=text, width=150, highlight=False), figures)
    parts = [
        "<!doctype html>",
        f"<html lang='en'><head><meta charset='utf-8'><title>{html.escape(title)}</title>",
        f"<style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1>",
        f"<p>{html.escape(runs[0].mix.about)}</p>",
    ]
    if can_plot():
        for site in runs[0].world.providers:
            picture = base64.b64encode(draw_site(runs, site)).decode()
            parts.append(
                f"<p><img alt='{html.escape(site)}' src='data:image/png;base64,{picture}'></p>"
            )
    else:
        parts.append("<p>No pictures: matplotlib is not installed.</p>")
    parts.append(f"<pre>{html.escape(text.getvalue())}</pre></body></html>")
    return "\n".join(parts) + "\n"
