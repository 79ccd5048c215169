"""What is said of the store: away, forgetful, full, and in another time."""

from pathlib import Path

import pytest

from relay.store.link import Link
from tests.kit.ports import find_free_port
from tests.kit.redis import Server, open_server
from tests.kit.sentinel import wait_until
from tests.workers.doctor.place import levels, make_config
from workers.doctor.storehouse import _check_clock, _judge_memory, check_store


async def test_a_store_as_it_should_be(tmp_path: Path) -> None:
    with open_server(maxmemory="100mb") as server:
        link = Link(server.url, timeout=10)
        found = await check_store(make_config(tmp_path), link)
        await link.aclose()

    assert levels(found) == [("store", "ok"), ("store", "ok"), ("clock", "ok")]
    assert "of 100 MiB used" in found[1].text


async def test_one_without_a_limit(server: Server, link: Link, tmp_path: Path) -> None:
    found = await check_store(make_config(tmp_path), link)

    assert levels(found) == [("store", "ok"), ("store", "warning"), ("clock", "ok")]
    assert "no maxmemory" in found[1].text


@pytest.mark.parametrize(("durability", "level"), [("require", "error"), ("warn", "warning")])
async def test_one_that_can_forget(tmp_path: Path, durability: str, level: str) -> None:
    with open_server(appendfsync="everysec", maxmemory="100mb") as server:
        link = Link(server.url, timeout=10)
        config = make_config(tmp_path, store={"url": server.url, "durability": durability})
        first, *rest = await check_store(config, link)
        await link.aclose()

    assert (first.level, levels(rest)) == (level, [("store", "ok"), ("clock", "ok")])
    assert "appendfsync is 'everysec'" in first.text


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ("32mb 8mb 60", []),
        ("1kb 0 0", []),
        ("0 8mb 60", []),
        ("0 0 0", ["warning"]),
        ("0 0 60", ["warning"]),
    ],
)
async def test_what_waits_for_listeners(
    server: Server, link: Link, tmp_path: Path, limits: str, expected: list[str]
) -> None:
    await link.call("CONFIG", "SET", "maxmemory", "100mb")
    await link.call("CONFIG", "SET", "client-output-buffer-limit", f"pubsub {limits}")
    try:
        found = await check_store(make_config(tmp_path), link)
    finally:
        await link.call("CONFIG", "SET", "client-output-buffer-limit", "pubsub 32mb 8mb 60")
        await link.call("CONFIG", "SET", "maxmemory", "0")

    assert [one.level for one in found[2:-1]] == expected
    assert all("no limit" in one.text and "pubsub" in one.advice for one in found[2:-1])


async def test_one_with_a_replica(tmp_path: Path) -> None:
    """What a fail-over can lose is said, and with both settings there is nothing to say."""
    with (
        open_server(maxmemory="100mb", port=str(find_free_port())) as server,
        open_server() as replica,
        server.client() as client,
    ):
        with replica.client() as other:
            other.replicaof("127.0.0.1", server.port)
        wait_until(lambda: client.info("replication")["connected_slaves"] == 1, "no replica")
        link = Link(server.url, timeout=10)
        config = make_config(tmp_path, store={"url": server.url})
        _, risk, *_ = await check_store(config, link)
        client.config_set("min-replicas-to-write", 1)
        config = make_config(tmp_path, store={"url": server.url, "replicas": 1})
        found = await check_store(config, link)
        await link.aclose()

    assert (risk.check, risk.level) == ("store", "warning")
    assert "a fail-over forgets" in risk.text
    assert levels(found) == [("store", "ok"), ("store", "ok"), ("clock", "ok")]


async def test_one_that_is_away(tmp_path: Path) -> None:
    link = Link("redis://:secret@127.0.0.1:9/0", timeout=1)
    (found,) = await check_store(make_config(tmp_path, store={"url": link.url}), link)
    await link.aclose()

    assert (found.check, found.level, found.subject) == ("store", "error", "redis://127.0.0.1:9/0")
    assert "secret" not in found.text
    assert "store.url" in found.advice


@pytest.mark.parametrize(
    ("used", "level"), [(10, "ok"), (63, "ok"), (64, "warning"), (84, "warning"), (85, "error")]
)
def test_memory(tmp_path: Path, used: int, level: str) -> None:
    """The mark is at 85 %."""
    (found,) = _judge_memory(make_config(tmp_path), used << 20, 100 << 20, "store")

    assert found.level == level


@pytest.mark.parametrize(
    ("clock", "level"),
    [(100.5, "ok"), (98.5, "ok"), (97, "notice"), (104, "notice"), (60, "warning")],
)
def test_clock(clock: float, level: str) -> None:
    """It was read at some time from 100 to 101."""
    assert _check_clock(clock, 100, 101, "store").level == level
