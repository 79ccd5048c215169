"""Whether a refusal that names our address ends a message."""

import pytest

from relay.model import Blame, Disposition, Outcome
from workers.reprieve import reprieve

POOL = {"a": 2, "b": 1, "off": 0}


def refused(
    action: str, disposition: Disposition = Disposition.BOUNCED, *, label: str = ""
) -> Outcome:
    return Outcome(disposition, Blame.SOURCE, "RCPT", 550, "5.7.1", "blocked", label, action)


def kinds(outcomes: object) -> list[Disposition]:
    return [outcome.disposition for outcome in outcomes]  # type: ignore[attr-defined]


@pytest.mark.parametrize("action", ["quarantine-source", "retry-other-source", "slow-source"])
def test_another_source_has_its_try(action: str) -> None:
    assert kinds(reprieve([refused(action)], "a", POOL, 0)) == [Disposition.DEFERRED]


def test_when_all_have_tried_the_answer_stands() -> None:
    assert kinds(reprieve([refused("quarantine-source")], "b", POOL, 5)) == [Disposition.BOUNCED]


def test_tries_that_ended_otherwise_leave_some() -> None:
    """It was greylisted twice before it met the block."""
    assert kinds(reprieve([refused("quarantine-source")], "a", POOL, 2)) == [Disposition.DEFERRED]


def test_a_large_pool_may_try_all_its_sources() -> None:
    pool = {f"s{number}": 1 for number in range(20)}
    assert kinds(reprieve([refused("quarantine-source")], "s0", pool, 18)) == [Disposition.DEFERRED]
    assert kinds(reprieve([refused("quarantine-source")], "s0", pool, 19)) == [Disposition.BOUNCED]


@pytest.mark.parametrize("action", ["slow-source", "slow-netblock", "slow-tenant"])
def test_a_limit_ends_nothing(action: str) -> None:
    answer = refused(action, label="rate_limited")
    assert kinds(reprieve([answer], "a", {"a": 1}, 100)) == [Disposition.DEFERRED]


def test_a_source_that_is_alone_has_no_other() -> None:
    assert kinds(reprieve([refused("quarantine-source")], "a", {"a": 1}, 0)) == [
        Disposition.BOUNCED
    ]


@pytest.mark.parametrize("action", ["bounce", "fix-setup", "slow-tenant", "retry", ""])
def test_what_is_not_about_the_source_is_for_good(action: str) -> None:
    assert kinds(reprieve([refused(action)], "a", POOL, 0)) == [Disposition.BOUNCED]


def test_others_of_the_message_keep_their_answers() -> None:
    answers = [
        refused("bounce"),
        refused("quarantine-source"),
        Outcome(Disposition.DELIVERED, code=250),
    ]
    assert kinds(reprieve(answers, "a", POOL, 0)) == [
        Disposition.BOUNCED,
        Disposition.DEFERRED,
        Disposition.DELIVERED,
    ]
