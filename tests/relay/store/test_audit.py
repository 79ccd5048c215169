"""What the store knows of chains, and that a beacon does not forget for it."""

from pathlib import Path

import pytest

from relay.audit.beacon import Beacon
from relay.audit.line import Head
from relay.errors import StoreUnavailable
from relay.store.audit import AuditHeads
from relay.store.link import Link
from tests.kit.redis import Server
from tests.kit.trail import START, WallClock, begin, make_event

ONE, TWO, NINE = Head(1, b"1" * 64), Head(2, b"2" * 64), Head(9, b"9" * 64)
CHAIN = "gw.example.net.worker.1"


@pytest.fixture
def heads(link: Link) -> AuditHeads:
    return AuditHeads(link)


def make_beacon(link: Link, start: Head) -> Beacon:
    beacon = Beacon(CHAIN, link)
    beacon.begin(start)
    return beacon


async def test_heads_and_seals(heads: AuditHeads) -> None:
    assert await heads.read(CHAIN) is None
    await heads.note(CHAIN, ONE)
    await heads.note(CHAIN, TWO)
    await heads.note_seal(CHAIN, "2026-01-01", ONE)
    assert await heads.read(CHAIN) == TWO
    assert await heads.read_all() == {CHAIN: TWO}
    assert await heads.read_seals(CHAIN) == {"2026-01-01": ONE}
    assert await heads.read_lost() == []


async def test_forgetting_what_was_purged(heads: AuditHeads) -> None:
    await heads.note(CHAIN, NINE)
    for day, head in (("2026-01-01", ONE), ("2026-01-02", TWO)):
        await heads.note_seal(CHAIN, day, head)
        await heads.keep_lost(CHAIN, head)
    await heads.forget(CHAIN, ["2026-01-01"], up_to=1, whole=False)
    assert await heads.read_seals(CHAIN) == {"2026-01-02": TWO}
    assert await heads.read_lost() == [(CHAIN, TWO)]
    assert await heads.read(CHAIN) == NINE
    await heads.forget(CHAIN, ["2026-01-02"], up_to=9, whole=True)
    assert await heads.read(CHAIN) is None


async def test_a_beacon_tells_what_is_on_the_disk(heads: AuditHeads, link: Link) -> None:
    beacon = make_beacon(link, ONE)
    beacon.note_seal("2026-01-01", TWO)
    beacon.note(ONE)
    await beacon.tell(link)
    assert await heads.read(CHAIN) == ONE
    assert await heads.read_seals(CHAIN) == {}
    beacon.note(NINE)
    await beacon.tell(link)
    assert await heads.read(CHAIN) == NINE
    assert await heads.read_seals(CHAIN) == {"2026-01-01": TWO}
    assert await heads.read_lost() == []


@pytest.mark.parametrize("known", [NINE, Head(2, b"f" * 64)])
async def test_a_chain_that_was_cut_meanwhile(heads: AuditHeads, link: Link, known: Head) -> None:
    await heads.note(CHAIN, known)
    beacon = make_beacon(link, TWO)
    beacon.note(Head(3, b"3" * 64))
    await beacon.tell(link)
    assert await heads.read_lost() == [(CHAIN, known)]
    assert await heads.read(CHAIN) == Head(3, b"3" * 64)


async def test_a_chain_that_goes_on_as_it_should(heads: AuditHeads, link: Link) -> None:
    await heads.note(CHAIN, TWO)
    beacon = make_beacon(link, TWO)
    beacon.note(NINE)
    await beacon.tell(link)
    assert await heads.read_lost() == []


async def test_who_has_not_looked_does_not_overwrite(heads: AuditHeads, link: Link) -> None:
    await heads.note(CHAIN, NINE)
    beacon = make_beacon(link, ONE)
    beacon.note(TWO)
    beacon.send_last()
    assert await heads.read(CHAIN) == NINE


async def test_what_the_store_has_missed_is_told_later(tmp_path: Path) -> None:
    server = Server(tmp_path)
    link = Link(server.url, timeout=5)
    beacon = make_beacon(link, ONE)
    beacon.note(TWO)
    beacon.note_seal("2026-01-01", TWO)
    await beacon.tell(link)
    with pytest.raises(StoreUnavailable):
        await AuditHeads(link).read(CHAIN)
    server.start()
    try:
        await beacon.tell(link)
        assert await AuditHeads(link).read(CHAIN) == TWO
        assert await AuditHeads(link).read_seals(CHAIN) == {"2026-01-01": TWO}
    finally:
        await link.aclose()
        server.stop()


async def test_a_trail_that_closes_has_told_all(
    heads: AuditHeads, link: Link, tmp_path: Path
) -> None:
    trail = begin(tmp_path, clock=WallClock(START))
    trail.beacon._link = link
    trail.write(make_event(1))
    trail.flush()
    trail.sync()
    await trail.beacon.tell(link)
    trail.write(make_event(2))
    trail.close()
    found = await heads.read("gw.worker.1")
    assert found is not None
    assert found.n == 2
