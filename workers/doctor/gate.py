"""Keeping sources that fail a check from sending, and letting them send again.

A source that fails a check of ``checks.gate`` is suspended everywhere, for two looks from now: each
look renews that, and if nobody looks any more (all workers have stopped, the store was away) it ends by
itself. When the source passes, its suspension is lifted, without an operator.

An operator's suspension of the same source goes first: it is neither replaced nor lifted here. It is
read just before each write; a command that arrives between the two, some milliseconds in an hour, is
overwritten by a suspension that ends. Where nobody could tell (a DNS that does not answer), nothing is
suspended, renewed or lifted.
"""

from collections.abc import Sequence

from relay.store.suspension import Suspension, Suspensions
from workers.doctor.finding import Finding
from workers.quote import limit

WHO = "doctor"
LOOKS = 2  # that a suspension outlasts


class Gate:
    """Of one worker process. All of it raises StoreUnavailable, StoreError."""

    def __init__(self, checks: Sequence[str], interval: float, suspensions: Suspensions) -> None:
        """``checks``: those that count; ``interval``: seconds between two looks."""
        self._checks = frozenset(checks)
        self._interval = interval
        self._suspensions = suspensions

    async def apply(self, source: str, findings: Sequence[Finding]) -> str:
        """Act on what was found of a source: return "suspended" or "resumed" if that is new, else ""."""
        counting = [one for one in findings if one.check in self._checks]
        failing = [one for one in counting if one.level == "error"]
        present = await self._find(source)
        if present is not None and present.who != WHO:
            return ""
        if failing:
            await self._suspend(source, explain(failing), present)
            return "" if present else "suspended"
        if present is None or any(one.level == "skipped" for one in counting):
            return ""
        await self._suspensions.resume(Suspension(source=source))
        return "resumed"

    async def _find(self, source: str) -> Suspension | None:
        name = Suspension(source=source).name
        return next((one for one in await self._suspensions.read() if one.name == name), None)

    async def _suspend(self, source: str, why: str, present: Suspension | None) -> None:
        now = await self._suspensions.read_clock()
        await self._suspensions.suspend(
            Suspension(
                source=source,
                until=now + LOOKS * self._interval,
                since=present.since if present else now,
                who=WHO,
                why=why,
            )
        )


def explain(findings: Sequence[Finding]) -> str:
    """Put what was found into one line."""
    return limit("; ".join(f"{one.check}: {one.text}" for one in findings))
