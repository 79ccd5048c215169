"""The books must not close when something is wrong: each fault once."""

import pytest

from workers.emulation.books import Books, close_books
from workers.emulation.inbox import Copy, Inbox
from workers.emulation.sender import Sent

ANNA, BELA = b"anna@good.test", b"bela@picky.test"
SENT = [Sent(0, "ID0", b"m0@acme.test", (ANNA, BELA), b"digest")]
NO_NOTICES = dict.fromkeys(("accepted", "delivered", "bounced", "queued", "unknown"), 0)


def make_ledger(accepted: int, delivered: int, bounced: int, queued: int = 0) -> dict[str, int]:
    return {
        "accepted": accepted,
        "delivered": delivered,
        "bounced": bounced,
        "queued": queued,
        "unknown": 0,
    }


def make_inbox(
    copies: dict[bytes, list[bytes]], *, bounced: tuple[bytes, ...] = (), unanswered: bool = False
) -> Inbox:
    inbox = Inbox()
    inbox.copies = {(b"m0@acme.test", recipient): found for recipient, found in copies.items()}
    inbox.bounces = {(b"m0@acme.test", recipient): 1 for recipient in bounced}
    inbox.unanswered = set(inbox.copies) if unanswered else set()
    return inbox


def close(inbox: Inbox, ledger: dict[str, int], unanswered: set[Copy] = frozenset()) -> list[str]:
    books = close_books(SENT, set(unanswered), [inbox])
    return list(books.find_problems(ledger, NO_NOTICES))


def test_one_delivered_one_bounced_closes() -> None:
    inbox = make_inbox({ANNA: [b"digest"]}, bounced=(BELA,))

    assert close(inbox, make_ledger(2, 1, 1)) == []


def test_a_lost_recipient_is_named() -> None:
    problems = close(make_inbox({ANNA: [b"digest"]}), make_ledger(2, 2, 0))

    assert problems == [
        (
            "1 recipient acknowledged, and neither delivered nor bounced: "
            "m0@acme.test to bela@picky.test"
        ),
        "the ledger says 2 delivered, receivers and senders say 1",
    ]


@pytest.mark.parametrize(
    ("inbox", "ledger", "said"),
    [
        (make_inbox({ANNA: [b"other"], BELA: [b"digest"]}), (2, 2, 0), "with other bytes"),
        (make_inbox({ANNA: [b"digest"] * 2, BELA: [b"digest"]}), (2, 2, 0), "twice without"),
        (
            make_inbox({ANNA: [b"digest"], BELA: [b"digest"]}, bounced=(BELA,)),
            (2, 2, 0),
            "both delivered and bounced",
        ),
        (
            make_inbox({ANNA: [b"digest"], BELA: [b"digest"], b"x@good.test": [b"?"]}),
            (2, 2, 0),
            "without having been acknowledged",
        ),
        (make_inbox({ANNA: [b"digest"], BELA: [b"digest"]}), (3, 2, 0), "does not add up"),
        (make_inbox({ANNA: [b"digest"], BELA: [b"digest"]}), (3, 2, 0, 1), "still has 1 queued"),
        (make_inbox({ANNA: [b"digest"], BELA: [b"digest"]}), (3, 3, 0), "says 3 accepted"),
    ],
)
def test_each_fault_keeps_the_books_open(inbox: Inbox, ledger: tuple[int, ...], said: str) -> None:
    assert any(said in problem for problem in close(inbox, make_ledger(*ledger)))


def test_a_second_copy_is_excused_where_the_receiver_left_early() -> None:
    inbox = make_inbox({ANNA: [b"digest"] * 2, BELA: [b"digest"]}, unanswered=True)

    books = close_books(SENT, set(), [inbox])

    assert books.twice == 1
    assert list(books.find_problems({**make_ledger(2, 2, 0), "unknown": 2}, NO_NOTICES)) == []


def test_an_unknown_outcome_has_to_be_counted() -> None:
    inbox = make_inbox({ANNA: [b"digest"], BELA: [b"digest"]}, unanswered=True)

    assert close(inbox, {**make_ledger(2, 2, 0), "unknown": 1}) == [
        "the ledger counts 1 unknown outcomes, and receivers left 2 recipients without an answer"
    ]


def test_a_lost_250_at_the_door_may_double_a_message() -> None:
    inbox = make_inbox({ANNA: [b"digest"] * 2, BELA: [b"digest"] * 2})
    unanswered = {(b"m0@acme.test", ANNA), (b"m0@acme.test", BELA)}

    assert close(inbox, make_ledger(4, 4, 0), unanswered) == []


def test_the_notices_have_to_add_up_too() -> None:
    inbox = make_inbox({ANNA: [b"digest"]}, bounced=(BELA,))
    books = close_books(SENT, set(), [inbox])

    problems = books.find_problems(make_ledger(2, 1, 1), make_ledger(1, 0, 0, 1))

    assert list(problems) == ["the ledger of notices still has 1 queued"]


def test_nothing_accepted_is_no_success() -> None:
    assert list(Books().find_problems(make_ledger(0, 0, 0), NO_NOTICES)) == [
        "the gateway accepted nothing"
    ]
