"""Who makes the next attempt: the same source, another, or whoever's turn it is."""

from collections import Counter

import pytest

from relay.model import Blame, Disposition, Outcome
from workers.choice import choose_again

POOL = {"a": 2, "b": 1, "c": 1}


def make_outcome(
    code: int,
    command: str = "RCPT",
    blame: Blame = Blame.SESSION,
    *,
    status: str = "",
    text: str = "",
) -> Outcome:
    return Outcome(Disposition.DEFERRED, blame, command, code, status, text)


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA", "BDAT", "."])
@pytest.mark.parametrize(("code", "status"), [(451, "4.7.1"), (450, ""), (452, "4.5.3")])
def test_who_is_put_off_comes_back_from_the_same_source(
    command: str, code: int, status: str
) -> None:
    assert choose_again([make_outcome(code, command, status=status)], "b", POOL) == "b"


@pytest.mark.parametrize("text", ["greylisted", "Graylisting in action", "4.2.0 Grey, come back"])
def test_greylisting_may_say_that_it_is_about_the_mailbox(text: str) -> None:
    assert choose_again([make_outcome(450, status="4.2.0", text=text)], "b", POOL) == "b"


@pytest.mark.parametrize(
    "outcome",
    [
        make_outcome(452, status="4.2.2", text="mailbox full"),
        make_outcome(451, status="4.3.0", text="our disk is full"),
        make_outcome(421, "MAIL"),
        make_outcome(450, "CONNECT"),
        make_outcome(450, "EHLO"),
        make_outcome(0, "CONNECT", Blame.HOST),
        make_outcome(0, "."),
        make_outcome(550, "RCPT"),
    ],
)
def test_anything_else_goes_from_whoever_s_turn_it_is(outcome: Outcome) -> None:
    assert choose_again([outcome], "b", POOL) == ""


def test_one_recipient_that_was_put_off_is_enough() -> None:
    full = make_outcome(452, status="4.2.2", text="mailbox full")
    assert choose_again([full, make_outcome(451)], "b", POOL) == "b"


def test_a_refused_source_is_not_tried_again_and_its_work_is_shared_by_weight() -> None:
    refused = make_outcome(450, blame=Blame.SOURCE)
    found = Counter(choose_again([make_outcome(451), refused], "b", POOL) for _ in range(600))
    assert found.keys() == {"a", "c"}
    assert 1.5 < found["a"] / found["c"] < 2.7


@pytest.mark.parametrize("members", [{"a": 1}, {"a": 1, "b": 0}, {}])
def test_a_refused_source_without_another_is_everybody_s(members: dict[str, int]) -> None:
    assert choose_again([make_outcome(450, blame=Blame.SOURCE)], "a", members) == ""


def test_a_source_that_left_the_pool_keeps_nothing() -> None:
    assert choose_again([make_outcome(451)], "gone", POOL) == ""


def test_without_outcomes_it_is_whoever_s_turn() -> None:
    assert choose_again([], "a", POOL) == ""
