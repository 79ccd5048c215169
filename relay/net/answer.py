"""An HTTP answer: open while somebody looks at it, and its body, as much of it as is allowed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import trio

_CLOSE_FOR = 1.0  # seconds


@asynccontextmanager
async def open_answer(
    client: httpx2.AsyncClient, request: httpx2.Request
) -> AsyncIterator[httpx2.Response]:
    """Send a request; the answer's body is not read yet, and need not be. Raises httpx2.HTTPError."""
    response = await client.send(request, stream=True)
    try:
        yield response
    finally:
        # Also when time is up: what is left of a connection is given back or closed, but not for long.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLOSE_FOR):
            await response.aclose()


async def read_body(response: httpx2.Response, most: int) -> bytes:
    """Return the body as it came, or, if it is longer, more than ``most`` octets of it.

    Raises httpx2.HTTPError.
    """
    octets = bytearray()
    # To stop in the middle: the client's generators stand inside each other, and trio complains
    # of those that are left behind. Cancelled from below they all end.
    with trio.CancelScope() as reading:
        async for part in response.aiter_raw():
            octets += part
            if len(octets) > most:
                reading.cancel()
    return bytes(octets)
