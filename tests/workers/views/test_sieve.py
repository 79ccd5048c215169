"""Which events pass: everything that is given must match."""

from typing import Any

import pytest

from workers.views.selection import make_selection
from workers.views.sieve import Sieve

ID = "01K9VZ8G5TQ4X7M2N3P6R8S900"[:22] + "00"
DELIVERED = {
    "event": "delivered", "id": ID, "delivery": f"{ID}.1", "tenant": "acme", "domain": "y.test",
    "site": "big", "source": "a", "recipients": [{"address": "b@y.test"}],
}  # fmt: skip
ACCEPTED = {
    "event": "accepted", "id": ID, "tenant": "acme", "recipients": ["b@y.test", "c@Z.test", "odd"],
}  # fmt: skip


def passes(event: dict[str, Any], names: tuple[str, ...] = (), **chosen: Any) -> bool:
    return Sieve(make_selection(**chosen), names).passes(event)


@pytest.mark.parametrize("event", [DELIVERED, ACCEPTED, {}, {"event": "check"}])
def test_without_a_filter_all_pass(event: dict[str, Any]) -> None:
    assert passes(event)


@pytest.mark.parametrize(
    "chosen",
    [
        {"tenant": "acme"},
        {"domain": "Y.test"},
        {"site": "big", "source": "a"},
        {"ids": [ID]},
        {"ids": [f"{ID}.1"]},
        {"ids": [f"{ID}.7", f"{ID}.1"]},
        {"tenant": "acme", "domain": "y.test", "site": "big", "source": "a", "ids": [ID]},
    ],
)
def test_what_matches_passes_and_nothing_else(chosen: dict[str, Any]) -> None:
    assert passes(DELIVERED, **chosen)
    assert passes(DELIVERED, ("delivered", "bounced"), **chosen)
    assert not passes(DELIVERED, ("bounced",), **chosen)
    assert not passes(DELIVERED, **{**chosen, "tenant": "globex"})
    assert not passes(DELIVERED, **{**chosen, "ids": [f"{ID}.7"]})
    assert not passes({"event": "check"}, **chosen)


def test_a_message_goes_to_its_recipients_domains() -> None:
    assert passes(ACCEPTED, domain="z.test")
    assert not passes(ACCEPTED, domain="elsewhere.test")


def test_a_delivery_was_accepted_with_its_message() -> None:
    assert passes(ACCEPTED, ids=[f"{ID}.1"])


def test_a_decision_names_several_messages() -> None:
    assert passes({"event": "retried", "ids": [ID]}, ids=[ID])


def test_gaps_pass_always() -> None:
    assert passes({"event": "missed"}, ("bounced",), tenant="acme")
    assert passes({"event": "dropped"}, ("bounced",), tenant="acme")
