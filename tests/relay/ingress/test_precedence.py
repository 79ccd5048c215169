"""Who goes first: against a plain sort of all sessions, and where that would be too much work."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relay.ingress.precedence import Precedence
from tests.kit.guest import Guest


def fill(*guests: Guest, strangers: tuple[Guest, ...] = ()) -> Precedence:
    precedence = Precedence()
    for guest in guests:
        precedence.add(guest, stranger=guest in strangers)
    return precedence


def drain(precedence: Precedence, now: float) -> list[Guest]:
    """Choose until nobody is left to choose."""
    order = []
    while (guest := precedence.choose(now)) is not None:
        order.append(guest)
        precedence.remove(guest)
    return order


def test_idle_strangers_then_idle_newcomers_then_who_is_proven_then_who_is_slow() -> None:
    slow, quick = Guest(received=100), Guest(received=1_000_000)
    for guest in (slow, quick):
        guest.is_idle = False
    proven = [Guest(idle_since=1, proven=True), Guest(idle_since=5, proven=True)]
    known = [Guest(idle_since=2), Guest(idle_since=6)]
    strangers = (Guest(idle_since=3), Guest(idle_since=7))
    precedence = fill(
        quick, slow, proven[1], known[1], strangers[1], strangers[0], known[0], proven[0],
        strangers=strangers,
    )  # fmt: skip

    assert drain(precedence, 60) == [*strangers, *known, *proven, slow]
    assert len(precedence) == 1


@pytest.mark.parametrize(
    ("age", "received", "goes"),
    [(29, 0, False), (31, 0, True), (31, 31 * 1024, False), (31, 30 * 1024, True)],
)
def test_a_transaction_goes_that_is_old_and_slow(age: float, received: int, goes: bool) -> None:
    guest = Guest(proven=True)
    guest.open(100)
    guest.received = received

    assert drain(fill(guest), 100 + age) == [guest] * goes


def test_who_only_opens_transactions_has_one_chance() -> None:
    guests = [Guest(proven=proven) for proven in (False, True)]
    precedence = fill(*guests)
    for now in (0, 10, 20, 30, 40):
        for guest in guests:
            guest.end(now, accepted=False)
            guest.open(now)

    assert drain(precedence, 41) == guests[:1]


def test_whose_message_is_being_accepted_is_not_slow() -> None:
    guest = Guest(is_idle=False, begun=100)  # as sessions say then: now

    assert fill(guest).choose(100) is None


def test_the_slowest_goes_first() -> None:
    guests = [Guest(is_idle=False, received=received) for received in (3000, 10, 2000)]

    assert drain(fill(*guests), 100) == [guests[1], guests[2], guests[0]]


def test_who_has_done_something_since_is_not_who_was_idle_longest() -> None:
    one, two, three = (Guest(idle_since=time) for time in (1, 2, 3))
    precedence = fill(one, two, three)
    assert precedence.choose(4) is one

    one.idle_since = 10
    two.end(9, accepted=True)

    assert drain(precedence, 10) == [three, one, two]


def test_who_was_busy_is_found_when_it_is_idle_again() -> None:
    guest = Guest()
    guest.open(1)
    precedence = fill(guest)
    assert precedence.choose(2) is None

    guest.end(3, accepted=False)

    assert precedence.choose(4) is guest


class Watched(Guest):
    """Counts how often somebody asks whether it is idle."""

    looks = 0

    @property  # type: ignore[override]
    def is_idle(self) -> bool:
        Watched.looks += 1
        return self.begun == 0.0

    @is_idle.setter
    def is_idle(self, value: bool) -> None:
        pass


def test_a_full_house_at_work_is_not_searched_for_every_newcomer() -> None:
    guests = [Watched(begun=1.0, received=1 << 30) for _ in range(10_000)]
    precedence = fill(*guests)
    precedence.choose(100)  # the first time all that has happened so far is learnt
    Watched.looks = 0

    for _ in range(100):
        assert precedence.choose(100) is None

    assert Watched.looks <= 100 * 64
    # In turns: after so many choices everybody has been looked at, so who is slow is found.
    guests[5000].received = 0
    assert any(precedence.choose(100) is guests[5000] for _ in range(10_000 // 64 + 1))


def test_an_idle_house_is_not_searched_either() -> None:
    guests = [Watched(idle_since=float(number)) for number in range(10_000)]
    precedence = fill(*guests)
    Watched.looks = 0

    assert drain(precedence, 1e6)[:100] == guests[:100]
    assert Watched.looks <= 10_000


def test_those_who_have_gone_are_not_kept() -> None:
    precedence = Precedence()
    for number in range(10_000):
        guest = Guest(idle_since=float(number))
        precedence.add(guest, stranger=bool(number % 2))
        precedence.remove(guest)

    assert sum(map(len, precedence._heaps)) <= 100


class Sessions(RuleBasedStateMachine):
    """Sessions come, work and go; who would go next is who a plain sort puts first."""

    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.guests: dict[Guest, bool] = {}
        self.came: dict[Guest, float] = {}
        self.precedence = Precedence()

    def pick(self, number: int) -> Guest:
        return list(self.guests)[number % len(self.guests)]

    @rule(stranger=st.booleans())
    def come(self, stranger: bool) -> None:
        if len(self.guests) < 60:
            guest = Guest(idle_since=self.now)
            self.guests[guest] = stranger
            self.came[guest] = self.now
            self.precedence.add(guest, stranger=stranger)

    @rule(seconds=st.floats(0.5, 40))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.guests)
    @rule(number=st.integers(0, 59), octets=st.integers(0, 100_000), accepted=st.booleans())
    def work(self, number: int, octets: int, accepted: bool) -> None:
        guest = self.pick(number)
        if guest.is_idle and octets % 2:
            guest.idle_since = self.now  # a NOOP
        elif guest.is_idle:
            guest.open(self.now)
        elif octets % 2:
            guest.received += octets
        else:
            guest.end(self.now, accepted=accepted)

    @precondition(lambda self: self.guests)
    @rule(number=st.integers(0, 59))
    def leave(self, number: int) -> None:
        guest = self.pick(number)
        del self.guests[guest]
        self.precedence.remove(guest)

    @precondition(lambda self: self.guests)
    @rule()
    def make_room(self) -> None:
        chosen = self.precedence.choose(self.now)
        if chosen is not None:
            del self.guests[chosen]
            self.precedence.remove(chosen)

    @invariant()
    def the_first_goes_first(self) -> None:
        chosen = self.precedence.choose(self.now)
        expected = min((self.rank(guest) for guest in self.guests), default=None)
        if expected is None or expected[0] == 4:
            assert chosen is None
        else:
            assert chosen is not None
            assert self.rank(chosen) == expected

    def rank(self, guest: Guest) -> tuple[float, float]:
        if guest.is_idle:
            return (2 if guest.proven else 1 - self.guests[guest], guest.idle_since)
        age = self.now - (guest.begun if guest.proven else self.came[guest])
        if guest.begun < self.now and age > 30 and guest.received / age < 1024:
            return 3, guest.received / age
        return 4, 0


TestSessions = Sessions.TestCase


@given(st.lists(st.floats(0, 1e6), max_size=200))
def test_the_longest_idle_goes_first(times: list[float]) -> None:
    guests = [Guest(idle_since=time) for time in times]

    assert [guest.idle_since for guest in drain(fill(*guests), 1e6)] == sorted(times)
