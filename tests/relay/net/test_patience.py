import math

import trio
from trio.testing import MockClock

from relay.net.patience import Patience


async def test_it_ends_when_it_was_said_to(autojump_clock: MockClock) -> None:
    ends = trio.Event()
    patience = Patience(ends.set)
    begun = trio.current_time()

    patience.allow(300)
    await ends.wait()

    assert trio.current_time() - begun == 300
    assert patience.due == math.inf
    patience.end()


async def test_the_last_word_counts(autojump_clock: MockClock) -> None:
    ended: list[float] = []
    begun = trio.current_time()
    patience = Patience(lambda: ended.append(trio.current_time() - begun))

    patience.allow(10)
    await trio.sleep(5)
    patience.allow(10)
    await trio.sleep(20)
    assert ended == [15]  # later than was said first

    patience.allow(100)
    patience.allow(1)
    await trio.sleep(200)
    assert ended == [15, 26]  # sooner, and once

    patience.allow(1)
    patience.allow_until(math.inf)
    await trio.sleep(1000)
    patience.allow(1)
    patience.end()
    await trio.sleep(1000)
    assert ended == [15, 26]


async def test_of_many_each_has_its_own(autojump_clock: MockClock) -> None:
    ended: dict[int, float] = {}
    begun = trio.current_time()

    def note(number: int) -> None:
        ended[number] = trio.current_time() - begun

    def make(number: int) -> Patience:
        return Patience(lambda: note(number))

    all_of_them = [make(number) for number in range(1000)]
    for number, patience in enumerate(all_of_them):
        patience.allow(1 + number / 100)
    await trio.sleep(20)

    assert len(ended) == 1000
    # One after the other within ten seconds: a look each quarter of one finds them.
    assert all(0 <= when - (1 + number / 100) <= 0.25 for number, when in ended.items())


async def test_who_ends_another_on_the_way(autojump_clock: MockClock) -> None:
    ended: list[str] = []
    one: Patience
    other: Patience

    def end_the_other(name: str) -> None:
        ended.append(name)
        (other if name == "one" else one).end()

    one = Patience(lambda: end_the_other("one"))
    other = Patience(lambda: end_the_other("other"))
    later = Patience(lambda: ended.append("later"))
    for patience in (one, other):
        patience.allow(10)
    later.allow(11)
    await trio.sleep(20)

    # Whichever came first, both had come due.
    assert ended in (["one", "later"], ["other", "later"])
