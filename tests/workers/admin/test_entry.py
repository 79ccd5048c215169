"""Entries of the index, made of events."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.model import make_message_id
from tests.workers.admin.happenings import NOON, accept, attempt, deliver
from workers.admin.entry import BOUNCED, DELIVERED, QUEUED, fold, number_at, read_number, tell_time
from workers.admin.terms import list_terms


@given(st.lists(st.integers(0, 3_600_000_000_000), min_size=2, max_size=20))
def test_numbers_sort_as_ids_do_and_tell_the_time(milliseconds: list[int]) -> None:
    pairs = [(time, make_message_id(3, now=time / 1000)) for time in milliseconds]
    identities = sorted({identity for _, identity in pairs})

    assert sorted(identities, key=read_number) == identities
    for time, identity in pairs:
        assert tell_time(read_number(identity)) == pytest.approx(time / 1000, abs=0.002)


@pytest.mark.parametrize(
    "text", ["", "X" * 23, "Ü" * 24, "I" * 24, "0_" * 12, " " * 24, "0" * 23 + "-", "Z" * 24]
)
def test_what_is_no_id_has_no_number(text: str) -> None:
    with pytest.raises(ValueError, match="id"):
        read_number(text)


def test_times_are_between_numbers() -> None:
    number = read_number(make_message_id(0, now=NOON))

    assert number_at(NOON - 0.01) < number < number_at(NOON + 0.01)
    assert number_at(-1e30) < number < number_at(1e30)


def test_events_make_an_entry_in_any_order() -> None:
    taken = accept("Bob@Example.org", "eve@example.org", "joe@other.test")
    events = [
        taken,
        attempt("deferred", taken, {"Bob@Example.org": "deferred", "eve@example.org": "delivered"}),
        attempt("bounced", taken, {"Bob@Example.org": "deferred"}, after=9, site="s", source="b"),
        attempt("delivered", taken, {"joe@other.test": "delivered"}),
    ]
    later = int((NOON + 9) * 1000)
    for order in itertools.permutations(events):
        (entry,) = fold(order)
        assert (entry.time, entry.tenant, entry.sender) == (NOON * 1000, "acme", "ann@acme.example")
        assert (entry.size, entry.message_id) == (4321, "1@acme.example")
        assert {address: fate[0] for address, fate in entry.people.items()} == {
            "bob@example.org": BOUNCED, "eve@example.org": DELIVERED, "joe@other.test": DELIVERED,
        }  # fmt: skip
        assert entry.people["bob@example.org"] == (BOUNCED, later, "s", "b")
        assert entry.outcome == BOUNCED


def test_one_that_waits_is_queued_until_it_has_ended() -> None:
    taken = accept("a@x.test", "b@y.test")
    first = attempt("bounced", taken, {"a@x.test": "bounced"})

    assert fold([taken])[0].outcome == QUEUED
    assert fold([taken, first])[0].outcome == QUEUED
    assert fold([taken, deliver(taken)])[0].outcome == DELIVERED


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"event": "accepted"},
        {"event": "accepted", "id": 7},
        {"event": "suspended", "id": accept()["id"]},
        accept() | {"id": "no id"},
        accept() | {"time": "noon"},
        accept() | {"time": float("inf")},
        accept() | {"time": float("nan")},
        accept() | {"size": 1 << 70},
        accept() | {"sender": None},
        accept() | {"recipients": [7]},
        attempt("delivered", accept(), {"a@x.test": "what?"}),
    ],
)
def test_what_makes_no_sense_is_left_out(event: dict[str, object]) -> None:
    taken = accept()

    identities = [entry.id for entry in fold([event, taken])]

    assert taken["id"] in identities
    assert set(identities) <= {taken["id"], event.get("id")}


def test_a_message_is_found_by_all_of_its_words() -> None:
    (entry,) = fold(
        [accept("Bob@EXAMPLE.org", "eve@bücher.test", "joe", sender="Ann@Acme.example")]
    )

    assert sorted(list_terms(entry)) == [
        "dexample.org", "dxn--bcher-kva.test", "m1@acme.example", "oacme.example",
        "rbob@example.org", "reve@bücher.test", "rjoe", "sann@acme.example", "tacme",
    ]  # fmt: skip


def test_a_notice_has_the_null_sender() -> None:
    (entry,) = fold([accept(sender="")])

    assert "s" in list_terms(entry)
    assert not [term for term in list_terms(entry) if term.startswith("o")]
