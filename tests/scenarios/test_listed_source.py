"""A block list takes up one of our addresses: it is silent within a look, the others go on, and when it
is taken off again it sends again. No operator does anything.
"""

from pathlib import Path
from typing import Any

import msgspec
import trio

from relay.config import Config, Seconds
from tests.kit.nameserver import SERVFAIL, Nameserver, open_nameserver
from tests.kit.peer import ScriptedHost, open_host
from tests.kit.redis import Server
from tests.kit.works import SOURCES, Works, make_config, open_works
from workers.doctor.watch import Watch

LISTED = {"11.0.0.127.bl.test": {"A": ["127.0.0.2"], "TXT": ['"Spam was seen"']}}
ADDRESSES = {name: SOURCES[name] for name in "ab"}
_INTERVAL = 0.2


def configure(base: Path, host: ScriptedHost, names: Nameserver) -> Config:
    config = make_config(
        base,
        routes={"y.test": [host.make_host()]},
        addresses=ADDRESSES,
        idle="100ms",
        tables={
            "dns": {"nameservers": [str(names.endpoint)], "timeout": "1s"},
            "checks": {"dnsbl": ["bl.test"], "gate": ["dnsbl"]},
        },
    )
    # Shorter than an operator may say.
    quick = msgspec.structs.replace(config.checks, interval=Seconds(_INTERVAL))
    return msgspec.structs.replace(config, checks=quick)


async def send(works: Works, host: ScriptedHost, count: int) -> set[str]:
    """Have so many messages delivered; return the addresses that they came from."""
    before = len(host.messages)
    await works.post_many(count)
    await works.wait_for(delivered=before + count, queued=0)
    return {message.client for message in host.messages[before:]}


async def wait_until_obeyed(works: Works, *, suspended: bool) -> None:
    with trio.fail_after(5):
        while works.pool.desk.is_suspended(source="a") is not suspended:  # noqa: ASYNC110
            await trio.sleep(0.01)


async def test_it_is_silent_while_it_is_listed(server: Server, tmp_path: Path) -> None:
    zone: dict[str, Any] = {"2.0.0.127.bl.test": {"A": ["127.0.0.2"]}}
    async with open_host() as host, open_nameserver(zone) as names:
        config = configure(tmp_path, host, names)
        async with (
            open_works(server, tmp_path, config=config) as works,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(Watch(config, works.store.link, works.events).run)
            assert await send(works, host, 20) == set(ADDRESSES.values())
            await host.wait_until(lambda: host.open == 0)

            zone |= LISTED
            listed = trio.current_time()
            await wait_until_obeyed(works, suspended=True)
            assert trio.current_time() - listed < _INTERVAL + 1
            assert await send(works, host, 20) == {ADDRESSES["b"]}

            # A DNS that goes down meanwhile neither lifts it nor takes the others away.
            names.trouble = SERVFAIL
            assert await send(works, host, 20) == {ADDRESSES["b"]}
            names.trouble = None

            del zone["11.0.0.127.bl.test"]
            await wait_until_obeyed(works, suspended=False)
            assert ADDRESSES["a"] in await send(works, host, 20)

            nursery.cancel_scope.cancel()
        check_events(works)


def check_events(works: Works) -> None:
    told = [one for one in works.read_events("check") if one["check"] == "dnsbl"]
    assert {one["source"] for one in told} == {"a"}
    assert [one["level"] for one in told] == ["error", "ok"]
    assert "Spam was seen" in told[0]["text"]
    assert [one["who"] for one in works.read_events("suspended")] == ["doctor"]
    assert [one["who"] for one in works.read_events("resumed")] == ["doctor"]
    assert works.read_events("deferred") == []
    assert {event["attempt"] for event in works.read_events("delivered")} == {1}
