"""The body of an HTTP answer, as much of it as is allowed."""

import httpx2
import trio


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
