"""What is read over HTTP: the same that commands print, by the page, and in time."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from relay.store.link import Link
from relay.store.queue import Store
from tests.bench.filling import fill
from tests.kit.command import Desk, make_desk, note_site, post
from tests.kit.messages import EVENT
from tests.kit.office import Visit, open_office
from tests.kit.redis import Server, open_server
from workers.admin.http import answers


def conforms(said: Any, shape: Any) -> None:
    """Fail unless an answer is of the shape that the description says."""
    msgspec.convert(said, shape, strict=True)
    if isinstance(shape, type) and issubclass(shape, msgspec.Struct):
        assert set(said) == {field.encode_name for field in msgspec.structs.fields(shape)}


def drop_times(said: Any) -> Any:
    """Return an answer without what passes: ages, and when it was."""
    words = ("oldest", "now", "memory", "at", "heard", "next_due", "opens")
    if isinstance(said, dict):
        return {name: drop_times(one) for name, one in said.items() if name not in words}
    return [drop_times(one) for one in said] if isinstance(said, list) else said


@pytest.mark.parametrize("name", ["status", "queues", "sources", "sites"])
async def test_the_same_as_the_command_prints(
    visit: Visit, desk: Desk, store: Store, name: str
) -> None:
    await post(store, "bob@y.test", "ann@z.test")
    await post(store, "bob@y.test", tenant="globex", priority="urgent")
    await note_site(store, "big", "acme/y.test", "globex/y.test/urgent")
    await visit.refresh()
    said = await visit.ask(name)
    done = await desk.call(name, "--json")
    more = {"at", "next"} if name == "queues" else set()
    assert set(said) == set(done.said) | more
    assert drop_times({k: v for k, v in said.items() if k not in more}) == drop_times(done.said)


async def test_answers_have_the_shapes_that_are_described(visit: Visit, store: Store) -> None:
    await post(store, "bob@y.test")
    await note_site(store, "big", "acme/y.test")
    await visit.refresh()
    queues = await visit.ask("queues")
    conforms(queues, answers.Queues)
    assert len(queues["queues"]) == 1
    deliveries = await visit.ask("queues/acme/y.test")
    conforms(deliveries, answers.Deliveries)
    assert len(deliveries["deliveries"]) == 1
    conforms(await visit.ask("standing"), answers.Grid)
    for row in await visit.ask("tenants"):
        conforms(row, answers.TenantRow)


async def test_what_is_written_down_is_found(visit: Visit, store: Store) -> None:
    message = await post(store, "bob@y.test")
    said = await visit.ask("messages", id=message)  # not heard of: the store knows
    conforms(said, answers.Messages)
    assert [one["id"] for one in said["messages"]] == [message]
    assert said["messages"][0]["domains"] == ["y.test"]
    flow = await visit.ask("flow", window="1h")
    conforms(flow, answers.Flow)
    assert set(flow["series"]) == {"accepted", "delivered", "deferred", "bounced", "refused"}
    assert {len(one) for one in flow["series"].values()} == {len(flow["queued"])}
    told = await visit.ask("history/standing", source="a", site="big", window="6h")
    conforms(told, answers.StandingHistory)
    assert len(told["score"]) == len(told["pace"]) == len(told["queued"]) > 10


async def test_a_message_is_told_as_explain_does(visit: Visit, desk: Desk, store: Store) -> None:
    message = await post(store, "bob@y.test")
    said = await visit.ask(f"messages/{message}")
    assert drop_times(said) == drop_times(await desk.ask("explain", message))
    assert (await visit.ask(f"messages/{message.lower()}.0"))["id"] == message


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("messages/nonsense", 400, "not a message id"),
        ("messages/01M8HAXWNKNEKFHRHDARMT0F", 404, "nothing is known"),
        ("queues/nobody/y.test", 404, "no [[tenant]] is called nobody"),
        ("queues/acme/[", 400, "not a domain name"),
        ("queues/acme/y.test?after=nonsense", 400, "not a cursor"),
        ("queues/acme/y.test?after=WyJ4IiwwXQ==", 400, "not a cursor"),
        ("queues/acme/y.test?limit=0", 400, "limit"),
        ("queues/acme/y.test?limit=100000", 400, "limit"),
        ("queues?after=nonsense", 400, "not a cursor"),
        ("queues?limit=many", 400, "limit"),
        ("queues?domain=[", 400, "not a domain name"),
        ("queues?nonsense=1", 400, "nonsense"),
        ("queues?limit=1&limit=2", 400, "twice"),
        (f"queues?site={'x' * 400}", 400, "320"),
        ("flow?window=2h", 400, "window"),
        ("history/standing", 400, "source"),
        ("messages?outcome=lost", 400, "outcome"),
        ("messages?after=nonsense", 400, "after"),
        ("events?limit=1", 400, "limit"),
        ("nonsense", 404, "openapi.json"),
    ],
)
async def test_what_makes_no_sense_is_said(visit: Visit, path: str, status: int, said: str) -> None:
    answer = await visit.client.get(f"/api/v1/{path}")
    assert answer.status_code == status, answer.text
    assert said in answer.json()["error"]
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("query", ["from=1e308", "from=-1e308&to=1e308", "to=1.7e308"])
async def test_times_far_away_are_times(visit: Visit, query: str) -> None:
    answer = await visit.client.get(f"/api/v1/messages?{query}")
    assert (answer.status_code, answer.json()["messages"]) == (200, [])


async def test_the_wrong_method_is_said(visit: Visit) -> None:
    answer = await visit.client.get("/api/v1/suspend")
    assert (answer.status_code, answer.json()["error"]) == (405, "not with this method")


# -- queues by the page ---------------------------------------------------------------------------


async def test_queues_by_the_page_are_each_shown_once(visit: Visit, store: Store) -> None:
    for number in range(7):
        for _ in range(number % 3 + 1):
            await post(store, f"bob@d{number}.test")
    await visit.refresh()
    pages, after = [], ""
    while after is not None:
        page = await visit.ask("queues", limit=2, after=after)
        assert page["total"]["queues"] == 7
        pages.append([one["domain"] for one in page["queues"]])
        after = page["next"]
    assert [len(page) for page in pages] == [2, 2, 2, 1]
    shown = [name for page in pages for name in page]
    assert shown == ["d2.test", "d5.test", "d1.test", "d4.test", "d0.test", "d3.test", "d6.test"]


async def test_queues_of_a_tenant_a_domain_a_site(visit: Visit, store: Store) -> None:
    await post(store, "bob@y.test")
    await post(store, "bob@z.test", tenant="globex")
    await note_site(store, "big", "acme/y.test")
    await visit.refresh()

    async def names(**query: str) -> list[str]:
        return [one["domain"] for one in (await visit.ask("queues", **query))["queues"]]

    assert await names(tenant="globex") == ["z.test"]
    assert await names(domain="Y.TEST") == ["y.test"]
    assert await names(site="big") == ["y.test"]
    assert await names(site="big", tenant="globex") == []


async def test_one_queue_by_the_page(visit: Visit, store: Store) -> None:
    """In hand first, then what is ready, then what is due; nothing twice."""
    ids = [await post(store, "bob@y.test") for _ in range(7)]
    urgent = await post(store, "bob@y.test", priority="urgent")
    claims, _ = await store.seize("acme/y.test", token="t", messages=[], start="-", limit=4)
    for claim in claims[:2]:
        await store.defer(claim, EVENT, wait=60.0)
    shown: list[dict[str, Any]] = []
    after: str | None = ""
    while after is not None:
        page = await visit.ask("queues/acme/y.test", limit=3, after=after)
        assert len(page["deliveries"]) <= 3
        shown += page["deliveries"]
        after = page["next"]
    states = [one["state"] for one in shown]
    assert states == ["claimed"] * 2 + ["ready"] * 4 + ["due"] * 2
    assert sorted(one["message"] for one in shown) == sorted([*ids, urgent])
    assert all(one["recipients"] == ["bob@y.test"] for one in shown)
    due = shown[-1]
    assert (due["attempts"], due["until"] > due["accepted"]) == (1, True)


async def test_a_page_goes_on_where_its_last_delivery_has_gone(visit: Visit, store: Store) -> None:
    for _ in range(6):
        await post(store, "bob@y.test")
    claims, _ = await store.seize("acme/y.test", token="t", messages=[], start="-", limit=6)
    for number, claim in enumerate(claims):
        await store.defer(claim, EVENT, wait=60.0 + number)
    page = await visit.ask("queues/acme/y.test", limit=3)
    last = page["deliveries"][-1]["message"]
    (claim,), _ = await store.seize_due(
        "acme/y.test", token="u", messages=[last], start=0, limit=10
    )
    rest = await visit.ask("queues/acme/y.test", limit=3, after=page["next"])
    wanted = [one.delivery.message_id for one in claims[3:]]
    assert [one["message"] for one in rest["deliveries"]] == wanted
    assert claim.delivery.message_id == last


@pytest.mark.parametrize(
    "many",
    [
        pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.alone]),
        pytest.param(200_000, marks=[pytest.mark.slow, pytest.mark.heavy]),
    ],
)
async def test_a_long_queue_takes_no_longer_to_look_at(
    server: Server, tmp_path: Path, many: int
) -> None:
    """Each page is there at once, however many wait."""
    desk = make_desk(tmp_path, server)
    with server.client() as client:
        client.config_set("appendfsync", "no")
    link = Link(server.url, timeout=60)
    try:
        await fill(Store(link, desk.config), ("y.test" for _ in range(many)), octets=200)
        async with open_office(desk.config) as visit:
            assert (await visit.ask("queues"))["total"]["ready"] == many
            after, times = "", []
            for _ in range(20):
                began = trio.current_time()
                page = await visit.ask("queues/acme/y.test", limit=100, after=after)
                times.append(trio.current_time() - began)
                assert len(page["deliveries"]) == 100
                after = page["next"]
            assert sorted(times)[len(times) // 2] < 0.05
    finally:
        with server.client() as client:
            client.config_set("appendfsync", "always")
        await link.aclose()


# -- probes, and the store's absence --------------------------------------------------------------


async def test_ready_when_a_source_is_alive(visit: Visit, store: Store) -> None:
    answer = await visit.client.get("/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (503, False)
    assert "no source is alive: start a worker" in answer.json()["why"]
    now = int((await store.link.call("TIME"))[0]) * 1000
    await store.link.call("ZADD", "{og0}:present", now, "source:a")
    visit.office.memo.forget()
    answer = await visit.client.get("/readyz")
    assert answer.json() == {"ready": True, "why": []}
    assert answer.status_code == 200


async def test_an_error_of_the_system_is_logged_and_not_shown(
    visit: Visit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def read(_: object) -> None:
        raise OSError(24, "Too many open files", "/secret/place")

    with monkeypatch.context() as patch:
        patch.setattr(type(visit.office.snapshot), "read", read)
        answer = await visit.client.get("/api/v1/status?secret=1")
    assert answer.status_code == 500
    assert "files" not in answer.text
    assert "secret" not in answer.text
    told = [one.getMessage() for one in caplog.records if one.name == "outgate.admin"]
    assert told == [
        "GET /api/v1/status failed: OSError: [Errno 24] Too many open files: '/secret/place'"
    ]
    assert (await visit.client.get("/api/v1/status")).status_code == 200


async def test_not_ready_with_a_store_that_forgets(
    visit: Visit, store: Store, server: Server
) -> None:
    try:
        await store.link.call("CONFIG", "SET", "appendfsync", "no")
        why = (await visit.client.get("/readyz")).json()["why"]
        assert any("appendfsync" in one for one in why)
    finally:
        await store.link.call("CONFIG", "SET", "appendfsync", "always")


async def test_not_ready_with_a_certificate_that_is_not_there(
    server: Server, tmp_path: Path
) -> None:
    desk = make_desk(tmp_path, server)
    config = msgspec.structs.replace(
        desk.config,
        ingress=msgspec.structs.replace(
            desk.config.ingress,
            tls=msgspec.structs.replace(
                desk.config.ingress.tls, certificate="/nowhere.pem", key="/nowhere.key"
            ),
        ),
    )
    async with open_office(config) as visit:
        why = (await visit.client.get("/readyz")).json()["why"]
    assert any("/nowhere.pem" in one for one in why)


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server that the test may stop."""
    with open_server() as server:
        yield server


@pytest.fixture
async def forlorn(own_server: Server, tmp_path: Path) -> AsyncIterator[Visit]:
    """The service, and then the store is gone."""
    async with open_office(make_desk(tmp_path, own_server).config) as visit:
        await visit.ask("status")
        own_server.kill()
        with trio.fail_after(10):
            while not visit.office.pulse.trouble:  # noqa: ASYNC110 - it looks once a second
                await trio.sleep(0.05)
        yield visit


async def test_without_a_store_it_says_so_at_once(forlorn: Visit, own_server: Server) -> None:
    for path in (
        "status",
        "queues",
        "sources",
        "sites",
        "standing",
        "tenants",
        "queues/acme/y.test",
    ):
        began = trio.current_time()
        answer = await forlorn.client.get(f"/api/v1/{path}")
        assert (answer.status_code, path) == (503, path)
        assert "the store does not answer" in answer.json()["error"]
        assert trio.current_time() - began < 2
    answer = await forlorn.client.post(
        "/api/v1/suspend", json={"source": "a"}, headers={"X-Outgate": "1"}
    )
    assert answer.status_code == 503
    ready = await forlorn.client.get("/readyz")
    assert ready.status_code == 503
    assert any("the store does not answer" in one for one in ready.json()["why"])
    assert (await forlorn.client.get("/healthz")).status_code == 200
    metrics = await forlorn.client.get("/metrics")
    assert (metrics.status_code, "outgate_store_up 0.0" in metrics.text) == (200, True)
    own_server.start()
    with trio.fail_after(20):
        while (await forlorn.client.get("/api/v1/status")).status_code != 200:  # noqa: ASYNC110
            await trio.sleep(0.1)


async def test_metrics_are_for_prometheus(visit: Visit) -> None:
    answer = await visit.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "outgate_store_up 1.0" in answer.text


async def test_json_has_no_word_for_infinity() -> None:
    assert json.loads(answers.Json({"a": float("inf")}).body) == {"a": None}
