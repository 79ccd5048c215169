"""A listener is too slow for the store, which cuts it off: it comes back, and says that it missed something."""

import trio

from relay.events import encode_event
from relay.store.keys import EVENTS_CHANNEL
from relay.store.link import Link
from tests.kit.redis import open_server
from workers.admin.hearing import Hearing

_LIMIT = 256 * 1024  # octets that may wait for a listener
_SMALL, _LARGE = encode_event({"event": "accepted"}), b"x" * (2 * _LIMIT)


async def test_who_is_cut_off_by_the_store_comes_back_and_tells_of_the_gap() -> None:
    with open_server() as server:
        link, hearing = Link(server.url, timeout=10), Hearing(server.url)
        async with trio.open_nursery() as nursery, hearing.open() as heard:
            nursery.start_soon(hearing.run)
            with trio.fail_after(60):
                (begin,) = await heard.receive()
                await link.call("PUBLISH", EVENTS_CHANNEL, _SMALL)
                assert await heard.receive() == [{"event": "accepted"}]

                limit = f"pubsub {_LIMIT} 0 0"
                await link.call("CONFIG", "SET", "client-output-buffer-limit", limit)
                await link.call("PUBLISH", EVENTS_CHANNEL, _LARGE)  # more than may wait, at once

                (gap,) = await heard.receive()
                assert (gap["event"], gap["count"]) == ("missed", None)
                assert begin["since"] <= gap["since"] <= gap["time"]
                await link.call("PUBLISH", EVENTS_CHANNEL, _SMALL)
                assert await heard.receive() == [{"event": "accepted"}]
                assert hearing.trouble == ""
            nursery.cancel_scope.cancel()
        await link.aclose()
