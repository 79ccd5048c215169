"""An answer's connection is given back, read or not, and whoever is in a hurry."""

from collections.abc import AsyncIterator

import httpx2
import pytest
import trio

from relay.net.answer import open_answer, read_body
from tests.relay.scan.scripted import open_scripted, read_question

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 50  # the rest never comes


async def answer(stream: trio.SocketStream) -> None:
    await read_question(stream)
    await stream.send_all(_ANSWER)
    await trio.sleep_forever()


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """A server that answers half, and waits."""
    async with open_scripted(answer) as address:
        yield f"http://{address}/"


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    """One connection at a time, and no patience for another."""
    limits = httpx2.Limits(max_connections=1)
    timeout = httpx2.Timeout(10, pool=1)
    async with httpx2.AsyncClient(trust_env=False, limits=limits, timeout=timeout) as client:
        yield client


async def test_what_nobody_reads_is_closed(client: httpx2.AsyncClient, url: str) -> None:
    for _ in range(2):
        async with open_answer(client, client.build_request("GET", url)) as response:
            assert response.status_code == 200


async def test_what_is_read_too_slowly_is_closed(client: httpx2.AsyncClient, url: str) -> None:
    for _ in range(2):
        with trio.move_on_after(0.2) as reading:
            async with open_answer(client, client.build_request("GET", url)) as response:
                await read_body(response, 1000)
        assert reading.cancelled_caught
        assert response.is_closed


async def test_more_than_is_allowed_is_not_read(client: httpx2.AsyncClient, url: str) -> None:
    async with open_answer(client, client.build_request("GET", url)) as response:
        assert await read_body(response, 40) == b"x" * 50
