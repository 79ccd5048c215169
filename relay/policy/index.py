"""Which rules a message could fit, found by what the envelope says, not by trying all of them.

Thousands of rules are thousands of senders, domains or tenants; a message has one sender, one tenant
and a few domains. Each rule stands in one drawer, under the names that it asks for; who has none of
these names cannot fit it.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from relay.policy.conditions import Conditions
from relay.policy.evidence import Evidence


class Index:
    """All rules, in their order."""

    def __init__(self, rules: Sequence[Conditions]) -> None:
        self._rules = rules
        self._always: list[int] = []
        self._senders: defaultdict[str, list[int]] = defaultdict(list)
        self._domains: defaultdict[str, list[int]] = defaultdict(list)
        self._tenants: defaultdict[str, list[int]] = defaultdict(list)
        self._concerned = frozenset(tenant for one in rules for tenant in one.rule.tenants)
        self._everybody = any(not one.rule.tenants for one in rules)
        for number, one in enumerate(rules):
            # The drawer with most names in it leaves least to try.
            rule = one.rule
            for drawer, names in (
                (self._senders, rule.senders),
                (self._domains, rule.recipient_domains),
                (self._tenants, rule.tenants),
            ):
                if names:
                    for name in frozenset(names):
                        drawer[name].append(number)
                    break
            else:
                self._always.append(number)

    def concerns(self, tenant: str) -> bool:
        """Tell whether any rule is about this tenant's mail."""
        return self._everybody or tenant in self._concerned

    def find(self, evidence: Evidence) -> Iterator[Conditions]:
        """Yield the rules whose conditions outside the message hold, in their order."""
        numbers = set(self._always)
        numbers.update(self._tenants.get(evidence.facts.tenant, ()))
        if self._senders:
            for name in evidence.senders:
                numbers.update(self._senders.get(name, ()))
        if self._domains:
            for name in evidence.domains:
                numbers.update(self._domains.get(name, ()))
        for number in sorted(numbers):
            if self._rules[number].fits_outside(evidence):
                yield self._rules[number]
