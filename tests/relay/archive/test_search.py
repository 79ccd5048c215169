import contextlib
import time
from pathlib import Path

import pytest
import trio

from relay.archive import Copies, Entry
from relay.archive.name import find_place, format_day
from relay.archive.search import Progress, Query, search
from relay.archive.vault import Found
from tests.kit.archive import DAY, MESSAGE, find_objects, make
from tests.kit.s3 import S3Server
from tests.relay.archive.conftest import Maker


async def find(archive: Copies, **wanted: str) -> list[str]:
    """Return the ids that are found, which must be the same in all copies."""
    lists = []
    for vault in archive.vaults:
        found = [one async for one in search(vault, Query(**wanted), Progress())]
        lists.append([one.place.message_id for one in found if one.entry is not None])
    assert all(one == lists[0] for one in lists)
    return lists[0]


async def put(archive: Copies, *entries: Entry, message: bytes = MESSAGE) -> list[str]:
    for entry in entries:
        await archive.put(entry, message)
    return [entry.id for entry in entries]


def find_noon() -> float:
    """Return yesterday's: midnight parts nothing that is put around it."""
    return time.time() // DAY * DAY - DAY / 2


async def test_by_what_messages_are_found(archive: Copies) -> None:
    noon = find_noon()
    age = time.time() - noon
    (old,) = await put(archive, make("bob@example.com", age=age + 2 * DAY))
    (other,) = await put(
        archive, make("ann@example.org", "Bob@Example.com", tenant="globex", age=age + 1)
    )
    (ruled,) = await put(archive, make(rule="secret", sender="", age=age), message=b"\r\n\r\nx\r\n")

    assert await find(archive) == [ruled, other, old]
    assert await find(archive, tenant="globex") == [other]
    assert await find(archive, tenant="nobody") == []
    assert await find(archive, recipient="bob@example.com") == [other, old]
    assert await find(archive, recipient="*@example.org") == [other]
    assert await find(archive, sender="<>") == [ruled]
    assert await find(archive, sender="s@*") == [other, old]
    assert await find(archive, rule="secret") == [ruled]
    assert await find(archive, message_id="<one@acme.example>") == [other, old]
    assert await find(archive, message_id="ONE@acme.example", tenant="acme") == [old]
    day, before = format_day(noon), format_day(noon - 2 * DAY)
    assert await find(archive, first=day) == [ruled, other]
    assert await find(archive, last=before) == [old]
    assert await find(archive, first=before, last=day, tenant="acme") == [ruled, old]


@pytest.mark.parametrize("address", ["[x]@y.example", "a?c@y.example", "a.c@y.example"])
async def test_only_the_star_is_special(make_archive: Maker, address: str) -> None:
    archive = make_archive(directory="archive")
    await put(archive, make("x@y.example", "abc@y.example"))
    (wanted,) = await put(archive, make(address))

    assert await find(archive, recipient=address) == [wanted]


async def test_two_thousand(make_archive: Maker) -> None:
    archive = make_archive(directory="archive")
    entries = [make(f"r{n}@example.com", age=n * 60) for n in range(2000)]
    await put_together(archive, entries)
    ids = [entry.id for entry in entries]

    assert await find(archive) == ids
    assert await find(archive, recipient="r1007@example.com") == [ids[1007]]


async def test_more_than_a_bucket_lists_at_once(
    make_archive: Maker, tmp_path: Path, s3: S3Server
) -> None:
    archive = make_archive(s3=s3.settings(tmp_path))
    noon = find_noon()
    entries = [make(age=time.time() - noon + n) for n in range(1010)]
    await put_together(archive, entries)

    (vault,) = archive.vaults
    places = await vault.list_places("acme", format_day(noon))
    assert [place.message_id for place in places] == [entry.id for entry in entries][::-1]


async def put_together(archive: Copies, entries: list[Entry]) -> None:
    together = trio.CapacityLimiter(20)

    async def put_one(entry: Entry) -> None:
        async with together:
            await archive.put(entry, MESSAGE)

    async with trio.open_nursery() as nursery:
        for entry in entries:
            nursery.start_soon(put_one, entry)


async def test_what_is_damaged_is_told_and_passed_over(make_archive: Maker, tmp_path: Path) -> None:
    archive = make_archive(directory="archive")
    ids = await put(archive, *(make(age=age) for age in (2, 1, 0)))
    path = next(p for p in find_objects(tmp_path / "archive") if p.name == f"{ids[1]}.mail")
    path.write_bytes(path.read_bytes()[:100])

    found: list[Found] = [one async for one in search(archive.vaults[0], Query(), Progress())]

    assert [one.place.message_id for one in found] == ids[::-1]
    assert [bool(one.damage) for one in found] == [False, True, False]
    assert find_place("acme", ids[1]).name in found[1].damage


async def test_what_is_none_of_ours_is_passed_over(make_archive: Maker, tmp_path: Path) -> None:
    archive = make_archive(directory="archive")
    ids = await put(archive, make())
    day = (tmp_path / "archive" / find_place("acme", ids[0]).name).parent
    (day / "notes.txt").write_text("x")
    (day / f"{ids[0]}.mail.bak").write_text("x")
    (day.parent / "lost+found").mkdir()
    (tmp_path / "archive" / "README").write_text("x")

    assert await find(archive) == ids


async def test_who_has_enough_may_stop(make_archive: Maker) -> None:
    archive = make_archive(directory="archive")
    await put(archive, *(make() for _ in range(100)))
    progress = Progress()

    async with contextlib.aclosing(search(archive.vaults[0], Query(), progress)) as found:
        async for _ in found:
            break

    assert progress.looked < 100
