"""The link for virtual time: real scripts, the caller's clock, news with the reply."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from relay.config.units import Rate
from relay.errors import StoreError, StoreUnavailable
from relay.store.gate import Gates, SiteLimits, Want
from relay.store.stilllink import StillLink
from tests.kit.redis import Server, open_server


@dataclass
class Here:
    """A link, its clock, and what it heard."""

    server: Server
    now: float = 1_700_000_000.0
    heard: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.link = StillLink(
            self.server.url, timeout=10, now=lambda: self.now, ring=self.heard.append
        )


@pytest.fixture
def here(server: Server) -> Iterator[Here]:
    here = Here(server)
    yield here
    here.link.close()


async def test_the_scripts_go_by_the_callers_clock(here: Here) -> None:
    gates = Gates(here.link, lease=60)
    limits = SiteLimits("s", 0, source_rates=(Rate(1, 60, 1),))

    async def ask() -> tuple[int, float | None]:
        reserved = await gates.reserve(limits, "p", 5, [Want("a", 5, 1, 5)], {"a": 1})
        return reserved.grants[0].count, reserved.wait

    assert (await ask())[0] == 1
    assert await ask() == (0, pytest.approx(60, abs=0.01))
    here.now += 59
    assert await ask() == (0, pytest.approx(1, abs=0.01))
    here.now += 1
    assert (await ask())[0] == 1


async def test_what_would_be_published_is_heard_with_the_reply(here: Here) -> None:
    gates = Gates(here.link, lease=60)
    await gates.fail("s", "a", first=60, most=60)
    assert here.heard == []

    gates.recover("s", "a")

    assert here.heard == ["site s"]


async def test_commands_are_answered_when_they_are_sent(here: Here) -> None:
    pending = [here.link.send("INCR", "n"), here.link.send("INCR", "n")]

    assert [await one.wait() for one in reversed(pending)] == [2, 1]
    assert await here.link.call("GET", "n") == b"2"


async def test_what_the_server_refuses_is_raised_where_it_is_waited_for(here: Here) -> None:
    pending = here.link.send("NONSENSE")

    with pytest.raises(StoreError):
        await pending.wait()


async def test_after_the_servers_end_there_is_none() -> None:
    with open_server() as server:
        here = Here(server)
        server.kill()
        with pytest.raises(StoreUnavailable):
            await here.link.call("PING")
    with pytest.raises(StoreUnavailable):
        await here.link.call("PING")
