"""Virtual time: order, and the clock that goes along."""

import threading

import pytest
import trio
import trio.testing

from workers.simulation.agenda import START, Agenda, Stopped


async def test_things_happen_in_their_order_and_at_their_time() -> None:
    clock = trio.testing.MockClock()
    agenda = Agenda(clock)
    began = clock.current_time()
    seen: list[tuple[str, float, float]] = []

    def note(name: str) -> None:
        async def action() -> None:
            seen.append((name, agenda.now - START, clock.current_time() - began))

        return action  # type: ignore[return-value]

    for name, time in (("late", 7.0), ("early", 2.0), ("second", 2.0), ("never", 11.0)):
        agenda.put(START + time, note(name))  # type: ignore[func-returns-value]
    await agenda.run(START + 10)

    assert [name for name, _, _ in seen] == ["early", "second", "late"]
    assert [at for _, at, _ in seen] == pytest.approx([2, 2, 7])
    assert [at for _, _, at in seen] == pytest.approx([2, 2, 7])
    assert agenda.now == START + 10


async def test_what_is_put_for_the_past_happens_now() -> None:
    agenda = Agenda()
    seen: list[float] = []

    async def look() -> None:
        seen.append(agenda.now)

    async def put() -> None:
        agenda.put(START, look)

    agenda.put(START + 5, put)
    await agenda.run(START + 6)

    assert seen == [START + 5]


async def test_it_ends_when_it_is_told_to() -> None:
    stop = threading.Event()
    agenda = Agenda(stop=stop)
    count = 0

    async def again() -> None:
        nonlocal count
        count += 1
        if count == 10:
            stop.set()
        agenda.put(agenda.now + 1, again)

    agenda.put(START, again)
    with pytest.raises(Stopped):
        await agenda.run(START + 1e6)
    assert count < 5000
