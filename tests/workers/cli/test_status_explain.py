"""``outgate status`` and ``outgate explain`` as a person runs them, on a real store."""

import json
import time
from pathlib import Path

import pytest
import trio

from relay.config import load
from relay.events import encode_event
from relay.model import Delivery, Envelope, Recipient, make_message_id
from relay.store.keys import find_shard
from relay.store.link import Link
from relay.store.queue import Store
from tests.kit.redis import Server
from workers.cli.main import main


@pytest.fixture
def file(server: Server, tmp_path: Path) -> str:
    path = tmp_path / "outgate.toml"
    path.write_text(f'[store]\nurl = "{server.url}"\n[ingress]\nhostname = "gw.example"\n')
    return str(path)


def put_message(file: str, *, defer: bool) -> str:
    """Put one message for two recipients into the queue; return its id."""
    home = find_shard("b.test")
    message_id = make_message_id(home)
    people = (Recipient(b"x@b.test"), Recipient(b"y@b.test"))
    delivery = Delivery(
        id=f"{message_id}.0",
        tenant="acme",
        pool="default",
        domain="b.test",
        envelope=Envelope(b"s@acme.example", people),
        size=5,
        chunks=1,
        accepted=time.time(),
        home=home,
        alone=True,
    )

    async def put() -> None:
        config = load(file)
        link = Link(config.store.url, timeout=5)
        store = Store(link, config)
        event = {
            "time": time.time(),
            "event": "accepted",
            "id": message_id,
            "sender": "s@acme.example",
            "recipients": ["x@b.test", "y@b.test"],
            "size": 5,
            "client": "192.0.2.1",
            "tls": "",
        }
        await store.accept([delivery], encode_event(event), b"hello")
        if defer:
            found = await store.claim(
                home, "default", token="t", most=1, octets=1 << 20, inline=1 << 20
            )
            answer = {
                "address": "x@b.test",
                "outcome": "deferred",
                "command": "RCPT",
                "code": 451,
                "text": "4.7.1 come back later",
            }
            event = {
                "time": time.time(),
                "event": "deferred",
                "domain": "b.test",
                "attempt": 1,
                "source": "a",
                "host": "mx.b.test",
                "address": "192.0.2.9:25",
                "tls": "TLSv1.3",
                "recipients": [answer],
                "wait": 300,
            }
            await store.defer(found.claims[0], encode_event(event), wait=300)
        await link.aclose()

    trio.run(put)
    return message_id


def test_status_prints_the_ledger(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    put_message(file, defer=False)

    assert main(["status", "-c", file, "--json"]) == 0

    state = json.loads(capsys.readouterr().out)
    assert state["ledger"] == {
        "accepted": 2,
        "delivered": 0,
        "bounced": 0,
        "queued": 2,
        "unknown": 0,
    }
    assert state["deliveries"] == {"queues": 1, "claimed": 0, "forwarding": 0}
    assert state["store"]["weaknesses"] == []


def test_status_for_people(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    put_message(file, defer=False)

    assert main(["status", "-c", file]) == 0

    assert "ledger: adds up (accepted = delivered + bounced + queued)" in capsys.readouterr().out


def test_status_says_when_the_ledger_does_not_add_up(
    file: str, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    with server.client() as client:
        client.hset("{og3}:ledger", "accepted", 1)

    assert main(["status", "-c", file]) == 1
    assert "does NOT add up" in capsys.readouterr().out


def test_explain_tells_what_happened_and_what_comes_next(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    message_id = put_message(file, defer=True)

    assert main(["explain", "-c", file, message_id.lower()]) == 0

    text = " ".join(capsys.readouterr().out.split())
    assert "accepted 5 octets <s@acme.example> -> x@b.test, y@b.test" in text
    assert "<x@b.test> deferred to RCPT: 451 4.7.1 come back later" in text
    assert "b.test: waits 5" in text or "b.test: waits 4" in text


def test_explain_as_json(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    message_id = put_message(file, defer=True)

    assert main(["explain", "-c", file, "--json", message_id]) == 0

    story = json.loads(capsys.readouterr().out)
    assert [event["event"] for event in story["events"]] == ["accepted", "deferred"]
    assert story["state"] == "queued"
    assert story["now"][0]["state"] == "due"
    assert 290 < story["now"][0]["wait"] <= 300


def test_explain_an_id_that_is_none(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "-c", file, "nonsense"]) == 2
    assert "is not a message id" in capsys.readouterr().err


def test_explain_an_unknown_id(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "-c", file, make_message_id(3)]) == 1
    assert "nothing is known of" in capsys.readouterr().err


def test_a_store_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "outgate.toml"
    path.write_text(f'[store]\nurl = "unix://{tmp_path}/nobody"\n[ingress]\nhostname = "gw"\n')

    assert main(["status", "-c", str(path)]) == 1
    assert "start it, or correct store.url" in capsys.readouterr().err
