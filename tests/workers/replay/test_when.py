"""When messages came, and when each is due."""

import pytest

from relay.config.units import parse_rate
from relay.model import Envelope
from workers.replay.histogram import Histogram
from workers.replay.pace import Order, Pace
from workers.replay.parcel import Parcel
from workers.replay.tally import Course
from workers.replay.when import find_time, read_asctime, read_date


@pytest.mark.parametrize(
    ("text", "time"),
    [
        (b"Mon, 5 Jan 2026 08:00:00 +0000", 1_767_600_000),
        (b"5 Jan 2026 09:00:00 +0100 (CET)", 1_767_600_000),
        (b"Mon, 5 Jan 26 03:00 EST", 1_767_600_000),
        (b"Mon, 5 Jan 2026 08:00:00 GMT", 1_767_600_000),
        (b"yesterday", 0),
        (b"99 Jan 2026 99:99:99 +0000", 0),
        (b"5 Foo 2026 08:00:00 +0000", 0),
    ],
)
def test_dates_are_read(text: bytes, time: float) -> None:
    assert read_date(text) == time


def test_the_topmost_received_says_when_it_came() -> None:
    head = (
        b"Received: from a by b; Mon, 5 Jan 2026 08:00:00 +0000\r\n"
        b"Received: from c by a; Mon, 5 Jan 2026 07:00:00 +0000\r\n"
        b"Date: Sun, 4 Jan 2026 08:00:00 +0000\r\n"
    )
    assert find_time(head, 5.0) == 1_767_600_000
    assert find_time(head.partition(b"Date")[1], 5.0) == 5.0
    assert find_time(b"Date: Mon, 5 Jan 2026 08:00:00 +0000\r\n", 0.0, 9.0) == 1_767_600_000
    assert find_time(b"Subject: x\r\n", 0.0, 9.0) == 9.0


def test_the_line_between_messages_of_a_mailbox_has_a_date() -> None:
    assert read_asctime(b"From a@b Mon Jan  5 08:00:00 2026") == 1_767_600_000
    assert read_asctime(b"From a@b Mon Jan 5 09:00:00 2026 +0100") == 1_767_600_000


def make_parcel(number: int, time: float) -> Parcel:
    return Parcel(number, f"{number}", time, Envelope(b"", ()), b"")


def test_a_rate_spreads_evenly() -> None:
    pace = Pace(rate=parse_rate("10/s"))

    assert [pace.find_due(make_parcel(n, 0)) for n in range(3)] == [0.0, 0.1, 0.2]


def test_as_recorded_keeps_distances_and_never_goes_back() -> None:
    pace = Pace(factor=10.0)

    times = [1000.0, 1050.0, 0.0, 1020.0, 1100.0]

    assert [pace.find_due(make_parcel(n, t)) for n, t in enumerate(times)] == [0, 5, 5, 5, 10]
    assert pace.late == 1


def test_order_is_that_of_arrival_as_far_as_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.replay.pace._MOST", 2)
    order = Order()
    out = []
    for number, time in enumerate([30.0, 20.0, 10.0, 5.0]):
        out += [parcel.time for parcel in order.put(make_parcel(number, time))]
    out += [parcel.time for parcel in order.finish()]

    assert out == [10.0, 5.0, 20.0, 30.0]


def test_percentiles_are_right_to_a_twentieth() -> None:
    times = Histogram()
    for number in range(1, 1001):
        times.add(number / 1000)

    found = times.describe()
    assert found["p50"] == pytest.approx(0.5, rel=0.06)
    assert found["p99"] == pytest.approx(0.99, rel=0.06)
    assert found["max"] == 1.0
    assert Histogram().describe()["p50"] is None


def test_a_course_of_a_year_takes_no_more_slots_than_one_of_minutes() -> None:
    course = Course()
    for day in range(365):
        course.find(day * 86400.0).accepted += 1

    assert len(course.slots) <= 600
    assert sum(slot.accepted for slot in course.slots) == 365
