"""A rule, ready to be held against messages: its conditions in the order of what they cost."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from relay.config.pattern import Pattern, compile_names
from relay.config.policy import HeaderCondition, Rule
from relay.policy.evidence import Evidence
from relay.scan.inquiry import Scan


@dataclass(frozen=True, slots=True)
class Look:
    """A condition that looks into the message. ``holds`` raises Unreadable."""

    label: str  # as the configuration calls it
    holds: Callable[[Evidence], Awaitable[bool]]


class Conditions:
    """What one rule asks of a message."""

    def __init__(self, rule: Rule) -> None:
        """``rule`` has passed the checks of the configuration: its patterns compile."""
        self.rule = rule
        self._tenants = frozenset(rule.tenants)
        self._senders = frozenset(rule.senders)
        self._domains = frozenset(rule.recipient_domains)
        # Those of the envelope that it has, as the configuration calls them.
        self.outside = tuple(
            label
            for label, is_asked in (
                ("tenants", rule.tenants),
                ("senders", rule.senders),
                ("recipient_domains", rule.recipient_domains),
                ("larger_than", rule.larger_than is not None),
                ("recipients_over", rule.recipients_over is not None),
            )
            if is_asked
        )
        self.looks = tuple(_list_looks(rule))

    def fits_outside(self, evidence: Evidence) -> bool:
        """Tell whether all conditions hold that need no look into the message."""
        rule, facts = self.rule, evidence.facts
        return (
            (not self._tenants or facts.tenant in self._tenants)
            and (rule.larger_than is None or facts.size > rule.larger_than)
            and (rule.recipients_over is None or len(facts.recipients) > rule.recipients_over)
            and (not self._senders or not self._senders.isdisjoint(evidence.senders))
            and (not self._domains or not self._domains.isdisjoint(evidence.domains))
        )

    def fits_scan(self, scan: Scan) -> bool:
        """Tell whether a scanner has said what the rule waits for: a result, or a score."""
        rule = self.rule
        return scan.result in rule.results or (
            rule.score is not None and scan.score is not None and scan.score >= rule.score
        )


def _list_looks(rule: Rule) -> list[Look]:
    """Return what looks into a message: the head first, then its parts, then into archives."""
    looks = [_look_for_field(condition) for condition in rule.header]
    if rule.attachment_types:
        looks.append(_look_for_types(frozenset(rule.attachment_types)))
    if rule.attachment_names:
        looks.append(_look_for_names(compile_names(rule.attachment_names)))
    return looks


def _look_for_field(condition: HeaderCondition) -> Look:
    name = condition.name.lower().encode("ascii")
    pattern = Pattern(condition.pattern) if condition.pattern else None

    async def holds(evidence: Evidence) -> bool:
        values = await evidence.find_values(name)
        if pattern is None or not values:
            return bool(values)
        return await evidence.search_values(pattern, values)

    return Look(f"header {condition.name}", holds)


def _look_for_types(types: frozenset[str]) -> Look:
    async def holds(evidence: Evidence) -> bool:
        return not types.isdisjoint(await evidence.find_types())

    return Look("attachment_types", holds)


def _look_for_names(pattern: Pattern) -> Look:
    async def holds(evidence: Evidence) -> bool:
        return await evidence.search_names(pattern)

    return Look("attachment_names", holds)
