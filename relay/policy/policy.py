"""The rules of a configuration, and what they decide about a message: the first that holds.

A rule is asked in the order of what its conditions cost: the envelope, the head, the parts, the
scanner; the first that does not hold ends it. A message is taken apart once, however many rules ask,
and only if one asks.

Where is the message? Nowhere but with us and the sender: nothing is accepted yet. Whatever goes wrong
here ends in "defer", a hold, a refusal or an exception, never in mail that a rule was to stop.
"""

from collections.abc import Mapping

import trio

from relay.config.policy import Rule
from relay.config.schema import Config
from relay.mime import Unreadable
from relay.policy.conditions import Conditions
from relay.policy.decision import Action, Decision
from relay.policy.evidence import Evidence, OutOfTime
from relay.policy.facts import Facts
from relay.policy.index import Index
from relay.scan.inquiry import ScanFailed
from relay.scan.scanner import Scanner

# Messages that are taken apart at a time in a process. Python's threads share one interpreter: more
# would not be faster, and each holds a message, and up to 64 MiB of what it unpacks.
_THREADS = 2
# A decision takes as long at most, scanners apart: the largest message, in a queue behind others.
_SECONDS = 60.0
# ... and this long with them. The client waits for our reply to its last dot for ten minutes
# (RFC 5321 §4.5.3.2.6), and the message must be stored in that time, too.
_MAX_SECONDS = 300.0
# Rules that are asked before others on the loop have a turn: a pattern takes some 10 us.
_AT_A_TIME = 100
_MAX_NOTES = 8
_MAX_NOTE = 200  # characters

_AS_IT_IS = Decision()


class Policy:
    """All rules of a process, compiled."""

    def __init__(self, config: Config, scanners: Mapping[str, Scanner]) -> None:
        """``scanners`` has those that rules name."""
        self._index = Index([Conditions(rule) for rule in config.rule])
        self._scanners = scanners
        self._threads = trio.CapacityLimiter(_THREADS)
        asked = {rule.scanner for rule in config.rule}
        waits = sum(scanner.timeout for scanner in config.scanner if scanner.name in asked)
        self._seconds = min(_SECONDS + waits, _MAX_SECONDS)

    def concerns(self, tenant: str) -> bool:
        """Tell whether any rule is about this tenant's mail; if none is, there is nothing to decide."""
        return self._index.concerns(tenant)

    async def decide(self, facts: Facts) -> Decision:
        """Return what becomes of a message, within minutes at most.

        Raises what ``facts.read`` raises. Blocks only if a rule looks into the message.
        """
        deadline = trio.current_time() + self._seconds
        judge = _Judge(Evidence(facts, self._scanners, self._threads, deadline=deadline))
        at: Rule | None = None
        try:
            for number, conditions in enumerate(self._index.find(judge.evidence), start=1):
                at = conditions.rule
                if number % _AT_A_TIME == 0:
                    await trio.lowlevel.checkpoint()
                    if trio.current_time() > deadline:
                        raise OutOfTime
                if (decision := await judge.judge(conditions)) is not None:
                    return decision
        except OutOfTime:
            # Not on_error: a busy machine is nothing that the message has done, and who makes it busy
            # gains nothing by it.
            return judge.decide(at, "defer", f"not decided within {self._seconds:g} s")
        return judge.pass_by()


class _Judge:
    """One message before the rules, and notes of what was found out on the way."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self._notes: list[str] = []

    async def judge(self, conditions: Conditions) -> Decision | None:
        """Return what a rule whose outside conditions hold decides; None if another does not."""
        rule = conditions.rule
        held = list(conditions.outside)
        for look in conditions.looks:
            try:
                if not await look.holds(self.evidence):
                    return None
                held.append(look.label)
            except Unreadable as error:
                why = f"{look.label}: not readable: {error}"
                if rule.on_error == "skip":
                    self._note(f"{rule.name} is skipped: {why}")
                    return None
                if rule.on_error != "match":
                    return self.decide(rule, rule.on_error, _cut(why))
                held.append(_cut(why))
        if rule.scanner:
            return await self._judge_scan(conditions, held)
        return self.decide(rule, rule.action, _join(held))

    async def _judge_scan(self, conditions: Conditions, held: list[str]) -> Decision | None:
        rule = conditions.rule
        try:
            scan = await self.evidence.ask(rule.scanner)
        except ScanFailed as error:
            if self.evidence.defers(rule.scanner):
                return self.decide(rule, "defer", _cut(str(error)))
            self._note(f"{rule.name} is skipped: {error}")
            return None
        if not conditions.fits_scan(scan):
            return None
        said = scan.result if scan.score is None else f"{scan.result} ({scan.score:g})"
        return self.decide(rule, rule.action, _join([*held, f"scanner {rule.scanner}: {said}"]))

    def decide(self, rule: Rule | None, action: Action, reason: str) -> Decision:
        """Return a decision, with what was noted before."""
        return Decision(rule, action, "; ".join([reason, *self._notes]), self.evidence.scans)

    def pass_by(self) -> Decision:
        """Return the decision that no rule holds."""
        if not self._notes and not self.evidence.scans:
            return _AS_IT_IS
        return Decision(reason="; ".join(self._notes), scans=self.evidence.scans)

    def _note(self, text: str) -> None:
        if len(self._notes) < _MAX_NOTES:
            self._notes.append(_cut(text))


def _join(held: list[str]) -> str:
    return _cut(", ".join(held), 1000) if held else "no conditions"


def _cut(text: str, most: int = _MAX_NOTE) -> str:
    """Bound a text, and leave out what no log should have in it."""
    shown = "".join(c if c.isprintable() else "?" for c in text[: most + 1])
    return shown if len(shown) <= most else shown[: most - 3] + "..."
