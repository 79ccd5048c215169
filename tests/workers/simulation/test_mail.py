"""The backlog: turns between tenants, pins, and whose mail is left alone."""

from workers.simulation.mail import Backlog, Mail


def make(tenant: str, number: int = 0, pin: str = "") -> Mail:
    return Mail("p", tenant, b"s@x.example", b"%d@p.example" % number, 0.0, pin=pin)


def test_tenants_take_turns() -> None:
    backlog = Backlog()
    for number in range(3):
        backlog.put(make("a", number))
    backlog.put(make("b"))

    taken = [backlog.take("") for _ in range(5)]

    assert [mail.tenant if mail else None for mail in taken] == ["a", "b", "a", "a", None]
    assert backlog.count == 0


def test_a_lane_that_was_empty_is_news() -> None:
    backlog = Backlog()

    assert [backlog.put(make("a")), backlog.put(make("a")), backlog.put(make("b"))] == [
        True,
        False,
        True,
    ]


def test_what_is_pinned_is_apart_and_whom_nobody_wants_waits() -> None:
    backlog = Backlog()
    backlog.put(make("a", pin="s"))
    backlog.put(make("b"))

    assert backlog.count_for("") == 1
    assert backlog.count_for("", {"b"}) == 0
    assert backlog.take("", {"b"}) is None
    assert backlog.count_for("s") == 1
    assert backlog.count == 2
