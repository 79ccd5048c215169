"""What deliveries count: attempts, replies, octets, sessions; each once."""

from pathlib import Path

import pytest

from relay.model import Disposition, Outcome
from tests.kit.counted import Counted
from tests.kit.messages import Claims
from tests.kit.peer import find_refusing_host, open_host
from tests.kit.redis import Server
from tests.kit.works import open_works
from workers.attempt import Attempt
from workers.ending import Ending

OK = Outcome(Disposition.DELIVERED, None, ".", 250, "2.0.0", "taken")


@pytest.fixture
def counted() -> Counted:
    return Counted()


async def test_what_was_delivered(server: Server, tmp_path: Path, counted: Counted) -> None:
    async with open_host() as host:
        routes = {"y.test": [host.make_host()]}
        async with open_works(server, tmp_path, routes=routes, connections=1) as works:
            sizes = [(await works.post(b"a@y.test", b"b@y.test")).size for _ in range(3)]
            await works.wait_for(delivered=6)
            assert sum(works.pool.count_sessions().values()) == 1

    ((site, source, result),) = counted.read("attempts")
    assert (source in works.pool.desk.sources, result) == (True, "delivered")
    assert counted.read("attempts") == {(site, source, "delivered"): 3}
    assert counted.read("replies") == {(site, "2xx"): 6}
    assert counted.read("message_bytes") == {("out",): sum(sizes)}
    assert counted.read("tls_sessions") == {("out", "none", ""): 1}
    assert counted.count("delivery_seconds") == counted.count("attempt_seconds") == 3


@pytest.mark.parametrize(
    ("script", "result", "label"),
    [
        ("RCPT 450 4.2.0 greylisted, come back in 5 minutes", "deferred", "greylisted"),
        ("RCPT 550 5.1.1 no such user", "bounced", "mailbox_unknown"),
    ],
)
async def test_what_was_not(
    server: Server, tmp_path: Path, counted: Counted, script: str, result: str, label: str
) -> None:
    async with open_host(script) as host:
        routes = {"y.test": [host.make_host()]}
        async with open_works(server, tmp_path, routes=routes) as works:
            await works.post()
            await works.wait_for_event(result)

    assert [labels[2] for labels in counted.read("attempts")] == [result]
    assert [labels[1] for labels in counted.read("replies")] == [label]
    assert counted.read("message_bytes") == {}
    assert counted.count("delivery_seconds") == 0


async def test_nobody_knows_after_the_dot(server: Server, tmp_path: Path, counted: Counted) -> None:
    async with open_host(". eof") as host:
        routes = {"y.test": [host.make_host()]}
        async with open_works(server, tmp_path, routes=routes) as works:
            await works.post()
            await works.wait_for_event("deferred")

    assert [labels[2] for labels in counted.read("attempts")] == ["unknown"]


async def test_a_host_that_is_not_there(server: Server, tmp_path: Path, counted: Counted) -> None:
    routes = {"y.test": [find_refusing_host()]}
    async with open_works(server, tmp_path, routes=routes) as works:
        await works.post()
        await works.wait_for_event("deferred")

    assert [labels[2] for labels in counted.read("attempts")] == ["deferred"]
    assert counted.read("replies") == {}  # nobody answered
    assert counted.read("tls_sessions") == {}


async def test_an_end_that_is_told_twice_counts_once(
    server: Server, tmp_path: Path, counted: Counted
) -> None:
    async with open_works(server, tmp_path, running=False) as works:
        await works.post()
        (claim,) = await Claims(works.store).take("y.test")
        ending = Ending(works.config, works.store, works.events)
        attempt = Attempt("a", "mx.y.test", "192.0.2.1:25", site="y.test")
        for _ in range(2):
            await ending.end(claim, [OK], attempt)

    assert counted.read("attempts") == {("y.test", "a", "delivered"): 1}


async def test_who_never_met_a_host_made_no_attempt(
    server: Server, tmp_path: Path, counted: Counted
) -> None:
    async with open_works(server, tmp_path, running=False) as works:
        await works.post()
        (claim,) = await Claims(works.store).take("y.test")
        await Ending(works.config, works.store, works.events).end_expired(claim)

    assert counted.read("attempts") == {}
