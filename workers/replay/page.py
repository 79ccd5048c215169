"""The report of a replay as one HTML file: figures, curves over time, replies; nothing is loaded.

Curves are SVG in the file. Whoever opens it years later, or offline, sees the same.
"""

import html
from collections.abc import Iterable, Sequence
from typing import Any

from workers.replay.report import format_latency, format_time, spell_protection

_WIDTH, _HEIGHT = 900, 180
_LEFT, _BOTTOM = 64, 22  # room for the numbers beside and below
_STYLE = """\
:root { color-scheme: light dark; --ink: #1d2329; --dim: #667; --line: #d5d9de; --paper: #fff;
  --good: #1f6fb4; --bad: #c8553d; --soft: #7a5bb0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7ea; --dim: #9aa3ad; --line: #3a414a;
  --paper: #15181c; --good: #5aa9e6; --bad: #e8836d; --soft: #b39be0; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 980px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.4em; } h2 { font-size: 1.1em; margin-top: 2em; }
svg { width: 100%; height: auto; } svg text { fill: var(--dim); font-size: 12px; }
.axis { stroke: var(--line); stroke-width: 1; } path { fill: none; stroke-width: 1.6; }
.good { stroke: var(--good); } .bad { stroke: var(--bad); } .soft { stroke: var(--soft); }
.key { color: var(--dim); } .key b { font-weight: 600; }
.key .good { color: var(--good); } .key .bad { color: var(--bad); } .key .soft { color: var(--soft); }
div.wide { overflow-x: auto; } table { border-collapse: collapse; }
td, th { text-align: left; padding: .2em .9em .2em 0; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: anywhere; } td.n { text-align: right; white-space: nowrap; }
"""

_POLICY = (
    "<meta http-equiv='Content-Security-Policy' "
    "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
)

_Curve = tuple[str, Sequence[float | None]]


def make_page(report: dict[str, Any]) -> str:
    """Return the page."""
    title = f"Replay to {report['to']}"
    course = report["course"]
    step = course["step"]
    rates = [
        ("good", [n / step for n in course["accepted"]]),
        ("bad", [n / step for n in course["failed"]]),
    ]
    parts = [
        "<!doctype html>",
        "<html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        # Whoever changes the file later: it still asks nobody for anything.
        _POLICY,
        f"<title>{_escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{_escape(title)}</h1>",
        _make_table(_list_figures(report)),
        "<h2>Messages a second</h2>",
        _make_key((("good", "accepted"), ("bad", "tries that brought something else"))),
        _draw(rates, step, lambda number: f"{number:,.3g}"),
        "<h2>From the final dot to its reply</h2>",
        _make_key((("good", "half are faster"), ("soft", "99 of 100 are faster"))),
        _draw([("good", course["p50"]), ("soft", course["p99"])], step, format_time),
        "<h2>Replies</h2>",
        _make_table(_list_replies(report), ("count", "to", "code", "text", "about")),
    ]
    if report["failed"]:
        rows = [(one["ended"], one["name"], one["tries"], one["reply"]) for one in report["failed"]]
        parts += ["<h2>Messages that were not accepted</h2>"]
        parts += [_make_table(rows, ("", "message", "tries", "last reply"))]
    return "\n".join([*parts, "</body></html>"]) + "\n"


def _list_figures(report: dict[str, Any]) -> list[tuple[object, ...]]:
    messages, latency = report["messages"], report["latency"]
    rows: list[tuple[object, ...]] = [
        (f"messages {word}", f"{count:,}")
        for word, count in messages.items()
        if isinstance(count, int) and (count or word == "accepted")
    ]
    rows += [(f"done earlier, {word}", f"{n:,}") for word, n in messages["earlier"].items()]
    rows += [
        ("took", f"{report['seconds']:,.1f} s" + (" (stopped)" if report["stopped"] else "")),
        ("rate", f"{report['rate']:,.1f} messages/s, {report['octet_rate'] / 1e6:,.2f} MB/s"),
        ("connections", spell_protection(report)),
    ]
    names = (("connect", "connecting"), ("dot", "dot to reply"), ("whole", "MAIL to reply"))
    rows += [(title, format_latency(latency[name]) or "-") for name, title in names]
    rows += [("left out", f"{n:,} x {why}") for why, n in report["left_out"].items()]
    return rows + [("damaged", text) for text in report["damaged"]]


def _list_replies(report: dict[str, Any]) -> list[tuple[object, ...]]:
    return [
        (one["count"], one["command"], one["code"], one["text"], one["label"])
        for one in report["replies"]
    ]


def _make_table(rows: Iterable[Sequence[object]], names: Sequence[str] = ()) -> str:
    head = "".join(f"<th>{_escape(name)}</th>" for name in names)
    lines = [f"<tr>{head}</tr>"] if names else []
    for row in rows:
        cells = [
            f"<td class='n'>{cell:,}</td>" if isinstance(cell, int) else f"<td>{_escape(cell)}</td>"
            for cell in row
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<div class='wide'><table>{''.join(lines)}</table></div>"


def _make_key(words: Iterable[tuple[str, str]]) -> str:
    said = " &nbsp; ".join(f"<b class='{name}'>—</b> {_escape(text)}" for name, text in words)
    return f"<p class='key'>{said}</p>"


def _draw(curves: Sequence[_Curve], step: float, spell: Any) -> str:  # noqa: ANN401 - number to text
    """Return a picture of curves that share their axes."""
    most = max((n for _, values in curves for n in values if n is not None), default=0.0) or 1.0
    count = max((len(values) for _, values in curves), default=1)
    parts = [f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img' aria-label='over time'>"]
    for share in (0.0, 0.5, 1.0):
        y = _find_y(share)
        parts.append(f"<line class='axis' x1='{_LEFT}' x2='{_WIDTH}' y1='{y:.1f}' y2='{y:.1f}'/>")
        parts.append(f"<text x='0' y='{y + 4:.1f}'>{_escape(spell(most * share))}</text>")
    for share in (0.0, 0.5, 1.0):
        anchor = ("start", "middle", "end")[int(share * 2)]
        x = _LEFT + share * (_WIDTH - _LEFT)
        text = f"{count * step * share:,.0f} s"
        parts.append(f"<text x='{x:.0f}' y='{_HEIGHT - 4}' text-anchor='{anchor}'>{text}</text>")
    parts += [f"<path class='{name}' d='{_trace(values, most)}'/>" for name, values in curves]
    return "".join([*parts, "</svg>"])


def _trace(values: Sequence[float | None], most: float) -> str:
    """Return a path through the values; where there is none it is interrupted."""
    width = (_WIDTH - _LEFT) / max(1, len(values))
    points, pen = [], "M"
    for number, value in enumerate(values):
        if value is None:
            pen = "M"
            continue
        x, y = _LEFT + number * width, _find_y(value / most)
        points.append(f"{pen}{x:.1f} {y:.1f}H{x + width:.1f}")
        pen = "L"
    return "".join(points)


def _find_y(share: float) -> float:
    return 8 + (1 - share) * (_HEIGHT - _BOTTOM - 8)


def _escape(text: object) -> str:
    return html.escape(str(text).encode("utf-8", "replace").decode(), quote=True)
