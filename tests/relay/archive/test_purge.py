import time
from pathlib import Path

import pytest

from relay.archive import Copies, Entry
from relay.archive.hold import Hold, place_hold, read_hold, read_holds, release_hold
from relay.archive.name import find_place, format_day
from relay.archive.purge import find_old
from relay.errors import ArchiveDamaged
from tests.kit.archive import DAY, MESSAGE, make
from tests.relay.archive.conftest import Maker


async def put(archive: Copies, *entries: Entry) -> list[str]:
    for entry in entries:
        await archive.put(entry, MESSAGE)
    return [entry.id for entry in entries]


async def find(archive: Copies, before: float, tenant: str = "") -> tuple[set[str], int]:
    """Return what would go, and how much stays; the same in all copies."""
    results = []
    for vault in archive.vaults:
        batches = [batch async for batch in find_old(archive, vault, before, tenant)]
        going = {place.message_id for batch in batches for place in batch.going}
        results.append((going, sum(batch.held for batch in batches)))
    assert all(one == results[0] for one in results)
    return results[0]


async def test_what_is_old_goes_to_the_second(archive: Copies) -> None:
    old, young = await put(archive, make(age=3 * DAY + 5), make(age=3 * DAY - 5))
    (other,) = await put(archive, make(age=9 * DAY, tenant="globex"))
    await put(archive, make())
    before = time.time() - 3 * DAY

    assert await find(archive, before) == ({old, other}, 0)
    assert await find(archive, before, "globex") == ({other}, 0)
    assert await find(archive, before + 60) == ({old, other, young}, 0)


async def test_a_hold_beats_a_purge(archive: Copies) -> None:
    one, two = await put(archive, make(age=3 * DAY), make(age=9 * DAY))
    (other,) = await put(archive, make(age=3 * DAY, tenant="globex"))
    three_days = format_day(time.time() - 3 * DAY)
    before = time.time() - DAY

    for hold, going in (
        (Hold(name="h", ids=(one,)), {two, other}),
        (Hold(name="h", tenant="acme"), {other}),
        (Hold(name="h", tenant="globex", ids=(one,)), {one, two, other}),
        (Hold(name="h", first=three_days), {two}),
        (Hold(name="h", last=three_days), set()),
        (Hold(name="h", tenant="acme", first=three_days, last=three_days), {two, other}),
        (Hold(name="h"), set()),
    ):
        await place_hold(archive, hold)
        assert await find(archive, before) == (going, 3 - len(going)), hold
    await release_hold(archive, "h")
    assert await find(archive, before) == ({one, two, other}, 0)


async def test_holds_are_kept_in_the_archive(archive: Copies) -> None:
    hold = Hold(name="2026-07-31-abcdef", tenant="acme", since=1.5, who="ann", why="case 4711")
    assert await read_holds(archive) == []
    await archive.put(make(), MESSAGE)

    await place_hold(archive, hold)
    await place_hold(archive, Hold(name="a", last="2026-01-01"))

    assert await read_holds(archive) == [hold, Hold(name="a", last="2026-01-01")]
    assert await read_hold(archive, hold.name) == hold
    assert await read_hold(archive, "b") is None
    # They are no tenant's.
    assert await archive.vaults[0].list_tenants() == ["acme"]
    await release_hold(archive, hold.name)
    await release_hold(archive, hold.name)
    assert [one.name for one in await read_holds(archive)] == ["a"]


async def test_a_hold_in_one_copy_counts(make_archive: Maker, tmp_path: Path) -> None:
    one, two = make_archive(directory="one"), make_archive(directory="two")
    both = Copies(one.vaults + two.vaults, None)
    await put(both, make(age=3 * DAY))
    await place_hold(two, Hold(name="h"))

    assert await find(both, time.time()) == (set(), 1)


@pytest.mark.parametrize("text", ['{"name":', '{"x":' + "[" * 100_000])
async def test_a_hold_that_cannot_be_read_stops_a_purge(
    make_archive: Maker, tmp_path: Path, text: str
) -> None:
    archive = make_archive(directory="archive")
    (message_id,) = await put(archive, make(age=3 * DAY))
    await place_hold(archive, Hold(name="h", tenant="globex"))
    (tmp_path / "archive/.holds/h.json").write_text(text)

    with pytest.raises(ArchiveDamaged, match=r"\.holds/h\.json cannot be read"):
        await find(archive, time.time())
    assert (tmp_path / "archive" / find_place("acme", message_id).name).exists()


async def test_a_hold_counts_from_the_next_batch_on(make_archive: Maker) -> None:
    archive = make_archive(directory="archive")
    await put(archive, make(age=9 * DAY), make(age=3 * DAY))
    batches = find_old(archive, archive.vaults[0], time.time())

    assert len((await anext(batches)).going) == 1
    await place_hold(archive, Hold(name="h"))
    assert (await anext(batches)).held == 1
    await batches.aclose()
