"""``outgate bounce``: ended, told, counted, and nothing else touched."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from relay.store.queue import Store
from tests.kit.audit import check
from tests.kit.command import Desk, make_desk, note_site, post
from tests.kit.messages import EVENT, Claims, read_books
from tests.kit.peer import open_host
from tests.kit.redis import Server
from tests.kit.works import open_works


async def put_many(store: Store, count: int, domain: str = "y.test") -> None:
    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(post, store, f"u{number}@{domain}", f"v{number}@{domain}")


async def test_the_sender_is_told(server: Server, tmp_path: Path) -> None:
    async with open_host("RCPT 451 4.3.0 later") as host, open_host() as home:
        routes = {"y.test": host.make_host(), "acme.example": home.make_host()}
        desk = make_desk(tmp_path, server, routes=routes)
        async with open_works(server, tmp_path, config=desk.config) as works:
            message = await post(works.store, "bob@y.test", "ann@y.test")
            await works.wait_for_event("deferred")
            done = await desk.call(
                "bounce", "--id", message, "--why", "ticket 7", "--text", "stopped on request"
            )
            assert "ended: 1 delivery to 2 recipients" in done.out
            await works.wait_for(accepted=2, bounced=2, queued=0)
            await home.wait_for(1)
            works.check()
        (notice,) = home.messages
        assert b"Status: 5.7.0" in notice.content
        assert b"stopped on request" in notice.content
        assert b"ticket 7" not in notice.content
        assert b"Final-Recipient: rfc822; ann@y.test" in notice.content
    story = await desk.ask("explain", message)
    assert story["state"] == "ended"
    names = [event["event"] for event in story["events"]]
    assert names == ["accepted", "deferred", "bounced-by-operator", "bounced"]
    assert story["events"][2]["why"] == "ticket 7"
    (event,) = desk.read_events("bounced-by-operator")
    assert (event["deliveries"], event["affected"], event["why"]) == (1, 2, "ticket 7")
    assert len(desk.read_events("bounced")) == 1


async def test_silent(server: Server, desk: Desk, store: Store) -> None:
    await post(store, "bob@y.test")
    done = await desk.call("bounce", "--domain", "y.test", "--silent")
    assert "nobody is told" in done.out
    assert await read_books(store) == {"accepted": 1, "bounced": 1}
    assert await read_books(store, "notices") == {}
    check(server)


async def test_a_large_queue(server: Server, desk: Desk, store: Store) -> None:
    """Ready and due, in many pages; each sender is told once."""
    await put_many(store, 260)
    for claim in (await Claims(store).take("y.test", most=150))[:150]:
        await store.defer(claim, EVENT, wait=600)
    await put_many(store, 5, "z.test")
    await note_site(store, "big", "acme/y.test")

    done = await desk.ask("bounce", "--site", "big")

    assert (done["deliveries"], done["recipients"]) == (260, 520)
    assert await read_books(store) == {"accepted": 530, "bounced": 520, "queued": 10}
    assert await read_books(store, "notices") == {"accepted": 260, "queued": 260}
    check(server)


async def test_one_of_a_message(server: Server, desk: Desk, store: Store) -> None:
    message = await post(store, "bob@y.test", "ann@z.test")
    done = await desk.ask("bounce", "--id", message, "--domain", "z.test")
    assert done["deliveries"] == 1
    story = await desk.ask("explain", message)
    assert [now["domain"] for now in story["now"]] == ["y.test"]
    done = await desk.call("bounce", "--id", f"{message}.1")
    assert (done.status, f"{message}.1 has ended" in done.err) == (1, True)
    assert (await desk.ask("bounce", "--id", message))["deliveries"] == 1
    assert await read_books(store) == {"accepted": 2, "bounced": 2}
    check(server)


async def test_what_a_worker_holds_is_not_touched(server: Server, desk: Desk, store: Store) -> None:
    for _ in range(3):
        await post(store, "bob@y.test")
    claim = (await Claims(store).take("y.test", most=1))[0]
    done = await desk.call("bounce", "--domain", "y.test")
    assert "ended: 2 deliveries" in done.out
    assert "1 delivery in a worker's hands, not touched" in done.err
    assert await store.settle(claim, EVENT)
    check(server)


async def test_a_dry_run_touches_nothing(server: Server, desk: Desk, store: Store) -> None:
    await put_many(store, 3)
    done = await desk.ask("bounce", "--tenant", "acme", "--dry-run")
    assert (done["deliveries"], done["dry_run"]) == (3, True)
    assert await read_books(store) == {"accepted": 6, "queued": 6}
    assert not desk.read_events("bounced-by-operator")


@pytest.mark.parametrize("words", [(), ("--id", "nonsense"), ("--all", "--text", " ")])
async def test_what_makes_no_sense(
    server: Server, desk: Desk, store: Store, words: tuple[str, ...]
) -> None:
    await put_many(store, 1)
    assert (await desk.call("bounce", *words)).status == 2
    assert await read_books(store) == {"accepted": 2, "queued": 2}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
async def test_it_is_cut_off(
    server: Server, tmp_path: Path, store: Store, number: signal.Signals
) -> None:
    """Ctrl-C leaves nothing claimed; after a kill, the lease ends and reclaim puts it back."""
    desk = make_desk(tmp_path, server)
    await put_many(store, 3000)
    command = [sys.executable, "-m", "workers.cli", "bounce", "-c", desk.file, "--all"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    while not (await read_books(store)).get("bounced"):  # noqa: ASYNC110 - in another process
        await trio.sleep(0.01)
    process.send_signal(number)
    _, said = await trio.to_thread.run_sync(process.communicate)
    books = await read_books(store)
    assert 0 < books["bounced"] < 6000
    assert books["queued"] + books["bounced"] == 6000
    check(server, leftover=True)
    claimed = await store.count_claimed()
    if number is signal.SIGINT:
        assert process.returncode == 130
        assert b"interrupted: the rest is as it was" in said
        assert not claimed
        (event,) = desk.read_events("bounced-by-operator")
        assert event["affected"] == books["bounced"]
    else:
        assert sum(claimed.values()) <= 100
