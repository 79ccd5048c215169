"""What is said about a replay when it is over: as data, and in lines for people."""

from typing import Any

from rich.console import Console

from workers.replay.histogram import Histogram
from workers.replay.run import Run
from workers.replay.tally import describe_replies

_LISTED = 10  # failed messages, for people
_REPLIES = 12


def describe(run: Run) -> dict[str, Any]:
    """Return the whole report. Times in seconds, sizes in octets."""
    plan, tally, left = run.plan, run.tally, run.plan.reading.left
    took = max(run.took, 1e-9)
    return {
        "to": f"{plan.target.name}:{plan.target.port}",
        "tls": plan.target.tls,
        "seconds": round(run.took, 3),
        "stopped": run.stopped,
        "ok": is_clean(run),
        "messages": {
            "taken": tally.taken,
            **{word: tally.messages[word] for word in ("accepted", "partly", "refused", "failed")},
            "unfinished": tally.taken - tally.ended,
            "earlier": dict(tally.earlier),
        },
        "recipients": {word: tally.recipients[word] for word in ("accepted", "refused", "failed")},
        "octets": tally.octets,
        "rate": round((tally.messages["accepted"] + tally.messages["partly"]) / took, 2),
        "octet_rate": round(tally.octets / took),
        "tries": tally.tries,
        "retries": tally.retries,
        "unanswered": tally.unknown,
        "connections": {
            "opened": sum(tally.connections.values()),
            "failed": tally.not_opened,
            "protection": {name or "none": n for name, n in tally.connections.items()},
        },
        "latency": {
            "connect": tally.opening.describe(),
            "dot": tally.dot.describe(),
            "whole": tally.whole.describe(),
        },
        "lag": round(tally.lag, 3),
        "out_of_order": plan.pace.late,
        "replies": describe_replies(tally.replies.most_common()),
        "failed": tally.failed,
        "left_out": dict(left.reasons),
        "damaged": left.damaged,
        "course": _describe_course(run),
    }


def is_clean(run: Run) -> bool:
    """Tell whether everything was accepted, and nothing of the corpus was out of reach."""
    return run.tally.is_clean and not run.plan.reading.left.damaged


def _describe_course(run: Run) -> dict[str, Any]:
    """Return what happened over time: a number a slot."""
    course = run.tally.course
    return {
        "step": course.step,
        "accepted": [slot.accepted for slot in course.slots],
        "failed": [slot.failed for slot in course.slots],
        "octets": [slot.octets for slot in course.slots],
        "p50": [_round(slot.dot, 0.5) for slot in course.slots],
        "p99": [_round(slot.dot, 0.99) for slot in course.slots],
    }


def _round(histogram: Histogram, share: float) -> float | None:
    found = histogram.find(share)
    return None if found is None else round(found, 6)


# -- for people -----------------------------------------------------------------------------------


def show(console: Console, report: dict[str, Any]) -> None:
    """Print what somebody wants to know of it."""
    messages = report["messages"]
    words = [f"{messages['accepted']:,} accepted"]
    words += [
        f"{messages[word]:,} {text}"
        for word, text in (
            ("partly", "by some of their recipients"),
            ("refused", "refused"),
            ("failed", "failed"),
            ("unfinished", "not finished"),
        )
        if messages[word]
    ]
    if earlier := sum(messages["earlier"].values()):
        words.append(f"{earlier:,} done earlier")
    _say(console, f"{messages['taken']:,} messages: {', '.join(words)}")
    _say(
        console,
        f"in {report['seconds']:.1f} s: {report['rate']:,.1f} messages/s, "
        f"{report['octet_rate'] / 1e6:,.2f} MB/s, over {report['connections']['opened']:,} connections "
        f"({spell_protection(report)})",
    )
    for name, title in (("connect", "connecting"), ("dot", "dot to reply"), ("whole", "whole")):
        if text := format_latency(report["latency"][name]):
            _say(console, f"{title + ':':<14}{text}")
    _show_trouble(console, report)


def _show_trouble(console: Console, report: dict[str, Any]) -> None:
    for text in _list_trouble(report):
        _say(console, text)
    refusals = [one for one in report["replies"] if one["label"] or one["code"] >= 400]
    for one in refusals[:_REPLIES]:
        said = f"{one['command']}: {one['code']} {one['text']}"
        _say(console, f"{one['count']:>8,} x {said} [{one['label']}]")
    for one in report["failed"][:_LISTED]:
        _say(console, f"  {one['ended']}: {one['name']}: {one['reply']}")
    if (more := len(report["failed"]) - _LISTED) > 0:
        _say(console, f"  and {more:,} more: --json, --report")


def _list_trouble(report: dict[str, Any]) -> list[str]:
    lines = []
    if report["retries"]:
        lines.append(f"{report['retries']:,} tries were repeated after a temporary refusal")
    if report["unanswered"]:
        lines.append(
            f"{report['unanswered']:,} tries had no answer to the final dot: what was sent again may "
            "be there twice"
        )
    if report["lag"] >= 1:
        lines.append(f"behind its times by up to {report['lag']:.1f} s: more --connections?")
    if report["out_of_order"]:
        lines.append(
            f"{report['out_of_order']:,} went after their time: out of order in the corpus"
        )
    lines += [f"left out: {count:,} x {why}" for why, count in report["left_out"].items()]
    return lines + [f"damaged: {text}" for text in report["damaged"]]


def spell_protection(report: dict[str, Any]) -> str:
    """Return "20 TLSv1.3, 3 in clear"."""
    found = report["connections"]["protection"].items()
    words = (f"{n:,} {'in clear' if name == 'none' else name}" for name, n in found)
    return ", ".join(words) or "none"


def format_latency(found: dict[str, Any]) -> str:
    """Return "p50 1.2 ms  p90 ...", "" when there is nothing."""
    if not found["count"]:
        return ""
    return "  ".join(f"{name} {format_time(found[name])}" for name in ("p50", "p90", "p99", "max"))


def format_time(seconds: float) -> str:
    """Return "0.85 ms", "12 ms", "1.3 s"."""
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.3g} ms" if seconds < 0.1 else f"{seconds * 1000:.0f} ms"


def _say(console: Console, text: str) -> None:
    plain = "".join([character if character.isprintable() else "?" for character in text])
    console.print(plain, soft_wrap=True, markup=False)
