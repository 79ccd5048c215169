"""What commands that change deliveries say about those that they did not touch, and how they exit."""

from typing import Any

from workers.cli.page import warn
from workers.views.selection import Selection
from workers.views.words import format_count

_INTERRUPTED = 130


def tell_rest(chosen: Selection, done: dict[str, Any]) -> None:
    """Say, on standard error, what was meant and not touched, or that nothing was meant."""
    if done["claimed"]:
        warn(
            f"{format_count(done['claimed'], 'delivery')} in a worker's hands, not touched: "
            "`outgate explain ID` tells how each went on"
        )
    for identity in done["ended"]:
        warn(f"{identity} has ended: nothing of it is queued")
    for identity in done["unknown"]:
        warn(f"{identity} is not known here, or ended longer ago than store.remember")
    words = ("deliveries", "ready", "rests", "claimed", "ended", "unknown", "held_before")
    if not any(done.get(word) for word in words):
        warn(f"nothing that is queued matches: {chosen}")
    if done.get("interrupted"):
        stopped = f" after {done['deliveries']:,} of {done['meant']:,}" if "meant" in done else ""
        warn(f"interrupted{stopped}: the rest is as it was; the same command goes on with it")


def find_status(done: dict[str, Any], *touched: object) -> int:
    """Return the exit code: 1 when nothing that may be touched matched."""
    if done.get("interrupted"):
        return _INTERRUPTED
    return 0 if any(touched) else 1
