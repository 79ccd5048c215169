"""Each setting that would let the server forget is found, and refused unless told otherwise."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from relay.errors import StartError
from relay.store.durability import find_weaknesses, require_durability
from relay.store.link import Link
from tests.kit.redis import Server, open_server

GOOD = {
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
    "maxmemory-policy": "noeviction",
}
BAD = {
    "appendonly": "no",
    "appendfsync": "everysec",
    "no-appendfsync-on-rewrite": "yes",
    "maxmemory-policy": "allkeys-lru",
}


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    with open_server() as server:
        yield server
        server.kill()  # asked to end, it would first finish the file that it was told to begin


@pytest.fixture
def server(own_server: Server) -> Iterator[Server]:
    yield own_server
    with own_server.client() as client:
        for name, value in GOOD.items():
            client.config_set(name, value)


def set_up(server: Server, name: str, value: str) -> None:
    with server.client() as client:
        client.config_set(name, value)


@pytest.fixture
async def link(server: Server) -> AsyncIterator[Link]:
    link = Link(server.url, timeout=10)
    yield link
    await link.aclose()


async def test_durable_server_has_no_weakness(link: Link) -> None:
    assert await require_durability(link, level="require") == []


@pytest.mark.parametrize("name", BAD)
async def test_bad_setting_is_refused(server: Server, link: Link, name: str) -> None:
    set_up(server, name, BAD[name])

    with pytest.raises(StartError, match=f"{name} is '{BAD[name]}', expected '{GOOD[name]}'"):
        await require_durability(link, level="require")


async def test_refusal_says_what_to_do(server: Server, link: Link) -> None:
    set_up(server, "appendfsync", "no")

    with pytest.raises(StartError, match=r'CONFIG SET, or say store\.durability = "warn"'):
        await require_durability(link, level="require")


async def test_warn_returns_a_line_for_each(server: Server, link: Link) -> None:
    for name, value in BAD.items():
        set_up(server, name, value)

    weaknesses = await require_durability(link, level="warn")

    assert [line.split()[0] for line in weaknesses] == list(BAD)


async def test_server_that_hides_its_configuration_is_a_weakness(
    server: Server, link: Link
) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-config")
    try:
        (weakness,) = await find_weaknesses(link)
        with pytest.raises(StartError):
            await require_durability(link, level="require")
    finally:
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "default", "+config")

    assert weakness.startswith("the server does not show its configuration")


async def test_server_that_is_not_there(tmp_path: Path) -> None:
    link = Link(f"unix://{tmp_path}/nobody", timeout=1)

    with pytest.raises(StartError, match=r"does not answer.*; start it, or correct store\.url"):
        await require_durability(link, level="warn")

    await link.aclose()
