"""Thousands of rules, and a message that none of them is about."""

import time

import pytest
from msgspec.structs import replace

from relay.config.policy import HeaderCondition, Rule
from relay.policy import Policy
from tests.kit.rules import Letter, make_policy, read_config

MANY = 10_000


def _make_policy(*rules: Rule) -> Policy:
    return make_policy(replace(read_config(), rule=rules))


@pytest.mark.parametrize("key", ["senders", "recipient_domains", "tenants"])
async def test_rules_about_others_cost_nothing(key: str) -> None:
    """By far less than a look at each of them, which is milliseconds."""
    rules = [
        Rule(
            name=f"r{number}",
            header=(HeaderCondition(name="Subject"),),
            action="reject",
            **{key: (f"s{number}@acme.example" if key == "senders" else f"n{number}.example",)},
        )
        for number in range(MANY)
    ]
    policy = _make_policy(*rules)
    facts = [Letter().facts for _ in range(100)]

    start = time.perf_counter()
    decisions = [await policy.decide(one) for one in facts]
    spent = (time.perf_counter() - start) / len(facts)

    assert not any(decision.rule for decision in decisions)
    assert spent < 0.001


async def test_order_holds_across_drawers() -> None:
    policy = _make_policy(
        Rule(name="no", senders=("b@acme.example",)),
        Rule(name="domain", recipient_domains=("*.example",), larger_than=1000),
        Rule(name="sender", senders=("a@acme.example", "*@acme.example"), larger_than=500),
        Rule(name="tenant", tenants=("acme", "other"), larger_than=100),
        Rule(name="all"),
    )

    names = []
    for size in (2000, 600, 200, 50):
        decision = await policy.decide(Letter(size=size).facts)
        assert decision.rule is not None
        names.append(decision.rule.name)

    assert names == ["domain", "sender", "tenant", "all"]


async def test_order_is_that_of_the_file_however_many_there_are() -> None:
    """Numbers of rules are kept in sets, which have an order of their own."""
    others = tuple(Rule(name=f"r{n}", senders=("b@acme.example",)) for n in range(200))
    for first, second in ((1, 8), (7, 32), (3, 128), (100, 128)):
        rules = list(others)
        rules[first] = Rule(name="first", senders=("a@acme.example",))
        rules[second] = Rule(name="second", recipient_domains=("*",))

        decision = await _make_policy(*rules).decide(Letter().facts)

        assert decision.rule is rules[first]
