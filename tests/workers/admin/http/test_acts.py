"""What operators do over HTTP: the same that commands do, on the record, with who and why."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.audit.chain import list_chains
from relay.audit.verify import verify
from relay.events import decode_event
from relay.store.queue import Store
from relay.store.suspension import Suspensions
from tests.kit.command import Desk, make_desk, post
from tests.kit.office import HERE, Visit, open_office
from tests.kit.redis import Server
from tests.workers.admin.http.conftest import TOKEN


async def test_suspend_and_resume(visit: Visit, desk: Desk, store: Store) -> None:
    await post(store, "bob@y.test")
    done = await visit.order(
        "suspend", domain="y.test", why="their wish", who="ann", **{"for": "1h"}
    )
    assert done["suspended"] == "domain=y.test"
    assert done["waiting"] == {"queues": 1, "deliveries": 1}
    assert done["undo"] == "outgate resume --domain y.test"
    (one,) = await Suspensions(store.link).read()
    assert (one.domain, one.who, one.why) == ("y.test", "ann@admin from 127.0.0.1", "their wish")
    assert one.until is not None
    assert 3590 < one.until - one.since <= 3600
    visit.office.memo.forget()
    assert (await visit.ask("status"))["suspensions"][0]["what"] == "domain=y.test"
    (event,) = desk.read_events("suspended")
    assert (event["who"], event["why"]) == ("ann@admin from 127.0.0.1", "their wish")

    done = await visit.order("resume", domain="y.test")
    assert done == {"resumed": ["domain=y.test"], "still_suspended": []}
    assert await Suspensions(store.link).read() == []
    (event,) = desk.read_events("resumed")
    assert event["who"] == "somebody@admin from 127.0.0.1"


async def test_hold_retry_bounce(visit: Visit, desk: Desk, store: Store) -> None:
    one, two = await post(store, "bob@y.test"), await post(store, "ann@z.test")
    dry = await visit.order("hold", all=True, dry_run=True)
    assert (dry["deliveries"], dry["recipients"]) == (2, None)
    assert (await visit.ask(f"messages/{one}"))["now"][0]["state"] == "ready"
    done = await visit.order("hold", ids=[one], why="odd")
    assert (done["deliveries"], done["undo"]) == (1, f"outgate retry --id {one}")
    assert (await visit.ask(f"messages/{one}"))["now"][0]["why"] == "held"
    assert (await visit.ask(f"messages/{two}"))["now"][0]["state"] == "ready"
    done = await visit.order("retry", ids=[one])
    assert done["deliveries"] == 1
    assert (await visit.ask(f"messages/{one}"))["now"][0]["state"] == "ready"
    done = await visit.order("bounce", domain="y.test", silent=True, text="no more", who="ann")
    assert (done["deliveries"], done["recipients"], done["silent"]) == (1, 1, True)
    story = await visit.ask(f"messages/{one}")
    assert story["state"] == "ended"
    assert any(e["event"] == "bounced-by-operator" and e["who"] == "ann@admin from 127.0.0.1"
               for e in story["events"])  # fmt: skip
    done = await visit.order("bounce", ids=[one])
    assert (done["deliveries"], done["ended"]) == (0, [f"{one}.0"])


async def test_what_the_decisions_say(visit: Visit, store: Store) -> None:
    await visit.order("suspend", all=True, why="fire")
    lines = await Suspensions(store.link).read_decisions()
    assert b'"why":"fire"' in lines[0]


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("suspend", {}, "say which"),
        ("bounce", {}, "ids"),
        ("suspend", {"source": "zz"}, "no such [[source]]; there is a"),
        ("suspend", {"tenant": "acme", "source": "a"}, "cannot suspend source and tenant together"),
        ("suspend", {"domain": "["}, "not a domain name"),
        ("suspend", {"source": "a", "for": "soon"}, "expected a duration"),
        ("suspend", {"source": "a", "for": "0s"}, "more than nothing"),
        ("suspend", {"source": "a", "dry_run": True}, "dry_run"),
        ("resume", {"sources": "a"}, "sources"),
        ("hold", {"ids": ["nonsense"]}, "not a message id"),
        ("hold", {"ids": "nonsense"}, "ids"),
        ("hold", {"all": "yes"}, "all"),
        ("retry", {"domain": 7}, "domain"),
        ("bounce", {"all": True, "why": "x" * 501}, "why"),
        ("bounce", {"all": True, "who": "x\n127.0.0.1 admin"}, "who"),
        ("bounce", {"all": True, "why": "x\x1b[2J"}, "why"),
        ("bounce", {"all": True, "text": "x\r\nX-Evil: 1"}, "text"),
        ("suspend", {"site": "x\x1b[2J"}, "site"),
        ("suspend", {"site": "x\n127.0.0.1"}, "site"),
        ("resume", {"source": "\x9b2J"}, "source"),
        ("hold", {"tenant": "a\u202eb"}, "tenant"),
        ("hold", {"ids": ["01M8HAXWNKNEKFHRHDARMT0F"] * 501}, "ids"),
        ("hold", [], "object"),
    ],
)
async def test_what_makes_no_sense_is_not_done(
    visit: Visit, desk: Desk, store: Store, name: str, words: Any, said: str
) -> None:
    await post(store, "bob@y.test")
    answer = await visit.client.post(f"/api/v1/{name}", json=words, headers=HERE)
    assert answer.status_code == 400, answer.text
    assert said in answer.json()["error"]
    assert await Suspensions(store.link).read() == []
    assert (await visit.ask("status"))["ledger"]["queued"] == 1
    assert await Suspensions(store.link).read_decisions() == []


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b'{"all": true}', "text/plain", 415),
        (b"all=true", "application/x-www-form-urlencoded", 415),
        (b'{"all": true, "all": true' + b" " * 70_000 + b"}", "application/json", 413),
    ],
)
async def test_what_is_no_order(visit: Visit, content: bytes, kind: str, status: int) -> None:
    answer = await visit.client.post(
        "/api/v1/bounce", content=content, headers={**HERE, "Content-Type": kind}
    )
    assert answer.status_code == status


async def test_a_token_has_a_name_on_the_record(guarded: Visit, store: Store) -> None:
    await guarded.client.post(
        "/api/v1/suspend", json={"source": "a"}, headers={"Authorization": f"Bearer {TOKEN}"}
    )
    (one,) = await Suspensions(store.link).read()
    name = sha256(TOKEN.encode()).hexdigest()[:8]
    assert one.who == f"{name}@admin from 127.0.0.1"


async def test_the_audit_trail_has_the_order_before_it_is_done(
    server: Server, tmp_path: Path, store: Store
) -> None:
    desk = make_desk(tmp_path, server, tables='[audit]\ndirectory = "audit"\n')
    async with open_office(desk.config) as visit:
        await post(store, "bob@y.test")
        for _ in range(3):  # each lets go of its chain: the next one goes on with it
            await visit.order("hold", domain="y.test", why="odd", who="ann")
    (chain,) = list_chains(tmp_path / "audit")
    lines = [line for day in chain.glob("*.jsonl") for line in day.read_bytes().splitlines()]
    commands = [event for event in map(decode_event, lines) if event["event"] == "command"]
    assert len(commands) == 3
    assert commands[0]["command"] == "hold"
    assert commands[0]["asked"] == {"domain": "y.test"}
    assert commands[0]["who"] == "ann@admin from 127.0.0.1"
    assert verify(tmp_path / "audit").findings == []


async def test_what_cannot_be_recorded_is_not_done(
    server: Server, tmp_path: Path, store: Store
) -> None:
    (tmp_path / "audit").write_text("a file")
    desk = make_desk(tmp_path, server, tables='[audit]\ndirectory = "audit"\n')
    async with open_office(desk.config) as visit:
        answer = await visit.client.post("/api/v1/suspend", json={"source": "a"}, headers=HERE)
        assert answer.status_code == 503
        assert "nothing was done" in answer.json()["error"]
    assert await Suspensions(store.link).read() == []


async def test_the_end_of_the_service_interrupts_what_takes_long(
    visit: Visit, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.admin.http.acts._LONGEST", 0.0)
    monkeypatch.setattr("workers.operations.seizure._PAGE", 2)
    for _ in range(20):
        await post(store, "bob@y.test")
    done = await visit.order("hold", domain="y.test")
    assert done["interrupted"]
    assert done["deliveries"] < 20
    monkeypatch.setattr("workers.admin.http.acts._LONGEST", 60.0)
    rest = await visit.order("hold", domain="y.test")
    assert (rest["deliveries"] + done["deliveries"], rest["interrupted"]) == (20, False)


async def test_listeners_hear_what_operators_do(visit: Visit, store: Store) -> None:
    await post(store, "bob@y.test")
    with trio.fail_after(30):
        while visit.office.hearing.trouble:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)
        async with visit.office.hearing.open() as heard:
            await visit.order("bounce", domain="y.test", silent=True, why="spam")
            names: list[str] = []
            while "bounced-by-operator" not in names:
                names += [event["event"] for event in await heard.receive()]
    assert "bounced" in names


def _find_record(desk: Desk, name: str) -> list[dict[str, Any]]:
    """Return what stands on the record of a whole order."""
    if not Path(desk.config.log.events).exists():
        return []
    return [event for event in desk.read_events(name) if "deliveries" in event]


@pytest.mark.parametrize("name", ["hold", "bounce"])
async def test_who_has_gone_waits_for_nothing_more(
    visit: Visit, desk: Desk, store: Store, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("workers.operations.seizure._PAGE", 2)
    for _ in range(200):
        await post(store, "bob@y.test")
    body = b'{"domain": "y.test"}'
    head = (
        f"POST /api/v1/{name} HTTP/1.1\r\nHost: localhost\r\nX-Outgate: 1\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    stream = await trio.open_tcp_stream("127.0.0.1", visit.port)
    await stream.send_all(head.encode() + body)
    event = {"hold": "held", "bounce": "bounced-by-operator"}[name]
    with trio.fail_after(60):
        while (await store.read_sizes(["acme/y.test"]))["acme/y.test"].ready == 200:  # noqa: ASYNC110
            await trio.sleep(0.01)
        await stream.aclose()
        while not (done := _find_record(desk, event)):  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)
    assert 0 < done[0]["deliveries"] < 200
    rest = await visit.order(name, domain="y.test")
    assert rest["deliveries"] + done[0]["deliveries"] == 200
