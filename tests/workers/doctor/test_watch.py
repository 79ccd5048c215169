"""The regular look: one of many workers does it, changes are told once, and a dead store ends nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

import workers.doctor.watch
from relay.config import Config, Seconds
from relay.events import EventLog, decode_event
from relay.store.checking import Checking
from relay.store.keys import make_key
from relay.store.link import Link
from relay.store.suspension import Suspension, Suspensions
from tests.kit.nameserver import SERVFAIL, SILENT, Nameserver, open_nameserver
from tests.kit.redis import Server, open_server
from tests.workers.doctor.place import GOOD, make_config
from workers.doctor.watch import Watch

LISTED = {"11.0.0.127.bl.test": {"A": ["127.0.0.2"], "TXT": ['"Spam"']}}
_LOOK = 0.005


class Post:
    """One watching process, and what it writes."""

    def __init__(self, config: Config, link: Link) -> None:
        self.config = config
        self.log = EventLog(config.log.events)
        self.watch = Watch(config, link, self.log)
        self.checking = Checking(link)
        self.suspensions = Suspensions(link)

    def read_events(self, *names: str) -> list[dict[str, Any]]:
        self.log.flush()
        lines = Path(self.config.log.events).read_bytes().splitlines()
        return [one for one in map(decode_event, lines) if not names or one["event"] in names]


def configure(
    base: Path, names: Nameserver, *, interval: float = 60, timeout: str = "1s", **checks: Any
) -> Config:
    config = make_config(
        base,
        dns={"nameservers": [str(names.endpoint)], "timeout": timeout},
        checks={"dnsbl": ["bl.test"], "gate": ["dnsbl"], **checks},
    )
    # Shorter than an operator may say.
    quick = msgspec.structs.replace(config.checks, interval=Seconds(interval))
    return msgspec.structs.replace(config, checks=quick)


@asynccontextmanager
async def open_names(**changes: Any) -> AsyncIterator[tuple[Nameserver, dict[str, Any]]]:
    zone = GOOD | changes
    async with open_nameserver(zone) as names:
        yield names, zone


async def test_all_is_well_and_nothing_is_told(link: Link, tmp_path: Path) -> None:
    async with open_names() as (names, _):
        post = Post(configure(tmp_path, names), link)
        await post.watch.look()

    assert post.read_events() == []
    known = await post.checking.read()
    assert {key: one.level for key, one in known.items()} == dict.fromkeys(
        [("a", "ptr"), ("a", "ehlo"), ("a", "dnsbl"), ("a", "spf")], "ok"
    )


async def test_a_change_is_told_once_and_by_whoever_sees_it(link: Link, tmp_path: Path) -> None:
    async with open_names() as (names, zone):
        config = configure(tmp_path, names)
        await Post(config, link).watch.look()
        zone |= LISTED
        post = Post(config, link)
        await post.watch.look()
        await post.watch.look()
        await Post(config, link).watch.look()

        (told,) = post.read_events("check")
        assert told["source"] == "a"
        assert (told["check"], told["was"], told["level"]) == ("dnsbl", "ok", "error")
        assert told["text"] == "listed on bl.test (127.0.0.2): Spam"
        (suspended,) = post.read_events("suspended")
        assert (suspended["source"], suspended["who"]) == ("a", "doctor")
        assert [one.name for one in await post.suspensions.read()] == ["source=a"]

        del zone["11.0.0.127.bl.test"]
        await post.watch.look()
        told = post.read_events("check")[-1]
        assert (told["was"], told["level"]) == ("error", "ok")
        (resumed,) = post.read_events("resumed")
        assert (resumed["who"], resumed["why"]) == ("doctor", "it passes again")
        assert await post.suspensions.read() == []


async def test_what_it_did_when_it_was_cut_off_is_told(
    link: Link, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_names(**LISTED) as (names, _):
        post = Post(configure(tmp_path, names), link)
        suspend = Suspensions.suspend
        with trio.CancelScope() as scope:

            async def suspend_and_cut(suspensions: Suspensions, one: Suspension) -> None:
                scope.cancel()
                await suspend(suspensions, one)

            monkeypatch.setattr(Suspensions, "suspend", suspend_and_cut)
            await post.watch.look()

    assert scope.cancelled_caught
    assert [one.name for one in await post.suspensions.read()] == ["source=a"]
    assert [one["source"] for one in post.read_events("suspended")] == ["a"]


async def test_without_the_gate_it_is_told_and_goes_on(link: Link, tmp_path: Path) -> None:
    async with open_names(**LISTED) as (names, _):
        post = Post(configure(tmp_path, names, gate=[]), link)
        await post.watch.look()

    assert [one["check"] for one in post.read_events()] == ["dnsbl"]
    assert await post.suspensions.read() == []


@pytest.mark.parametrize("trouble", [SERVFAIL, SILENT])
async def test_a_dns_that_is_down_is_held_against_nobody(
    link: Link, tmp_path: Path, trouble: Any
) -> None:
    async with open_names(**LISTED) as (names, _):
        post = Post(configure(tmp_path, names, gate=["dnsbl", "ptr", "spf"]), link)
        names.trouble = trouble
        await post.watch.look()
        assert (post.read_events(), await post.suspensions.read()) == ([], [])

        names.trouble = None
        await post.watch.look()
        before, known = await post.suspensions.read(), await post.checking.read()
        events = len(post.read_events())
        names.trouble = trouble
        await post.watch.look()
        assert await post.suspensions.read() == before
        assert await post.checking.read() == known
        assert len(post.read_events()) == events


async def test_what_is_not_looked_at_any_more_is_forgotten(link: Link, tmp_path: Path) -> None:
    async with open_names() as (names, _):
        await Post(configure(tmp_path, names), link).watch.look()
        post = Post(configure(tmp_path, names, dnsbl=[], gate=[]), link)
        await post.watch.look()

    assert ("a", "dnsbl") not in await post.checking.read()
    assert ("a", "ptr") in await post.checking.read()


async def wait_for_questions(names: Nameserver, count: int) -> None:
    with trio.fail_after(10):
        while sum(kind == "PTR" for _, kind in names.queries) < count:  # noqa: ASYNC110
            await trio.sleep(_LOOK)


async def test_one_of_many_looks_and_another_takes_over(
    link: Link, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers.doctor.watch, "BEAT", 0.02)
    async with open_names() as (names, _), trio.open_nursery() as nursery:
        config = configure(tmp_path, names, interval=1000)
        scopes = [trio.CancelScope() for _ in range(3)]

        async def run(scope: trio.CancelScope, post: Post) -> None:
            with scope:
                await post.watch.run()

        posts = [Post(config, link) for _ in scopes]
        for scope, post in zip(scopes, posts, strict=True):
            nursery.start_soon(run, scope, post)
        await wait_for_questions(names, 1)
        await trio.sleep(0.1)
        assert sum(kind == "PTR" for _, kind in names.queries) == 1

        # It stops in an orderly way: the next looks at once.
        holder = (await link.call("GET", make_key(0, "checking"))).decode()
        ours = next(n for n, post in enumerate(posts) if post.watch._worker == holder)
        scopes[ours].cancel()
        await wait_for_questions(names, 2)
        nursery.cancel_scope.cancel()


async def test_it_looks_again_and_again(link: Link, tmp_path: Path) -> None:
    async with open_names() as (names, _), trio.open_nursery() as nursery:
        post = Post(configure(tmp_path, names, interval=0.05), link)
        nursery.start_soon(post.watch.run)
        await wait_for_questions(names, 3)
        nursery.cancel_scope.cancel()

    assert await link.call("GET", make_key(0, "checking")) is None


async def test_the_lease_is_kept_while_it_looks(
    link: Link, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers.doctor.watch, "BEAT", 0.02)
    async with open_names() as (names, _), trio.open_nursery() as nursery:
        names.gate = trio.Event()
        post = Post(configure(tmp_path, names, timeout="60s"), link)
        nursery.start_soon(post.watch.run)
        await wait_for_questions(names, 1)
        await link.call("DEL", make_key(0, "checking"))  # its time is over
        with trio.fail_after(5):
            while await link.call("GET", make_key(0, "checking")) is None:  # noqa: ASYNC110
                await trio.sleep(_LOOK)
        nursery.cancel_scope.cancel()


async def test_a_store_that_goes_away_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workers.doctor.watch, "BEAT", 0.02)
    server: Server
    with open_server() as server:
        link = Link(server.url, timeout=2)
        async with open_names() as (names, zone), trio.open_nursery() as nursery:
            post = Post(configure(tmp_path, names, interval=0.1), link)
            nursery.start_soon(post.watch.run)
            await wait_for_questions(names, 1)
            server.kill()
            with trio.fail_after(10):
                while "our own sources are not looked at" not in caplog.text:  # noqa: ASYNC110
                    await trio.sleep(_LOOK)
            zone |= LISTED
            server.start()
            with trio.fail_after(10):
                while not await _is_suspended(post):  # noqa: ASYNC110
                    await trio.sleep(_LOOK)
            nursery.cancel_scope.cancel()
        await link.aclose()


async def _is_suspended(post: Post) -> bool:
    return bool(await post.suspensions.read())
