"""``outgate explain``: what happened to a message, why it waits, what opens next and when."""

import time
from typing import Any

import pytest

from relay.events import encode_event
from relay.model import Claim, make_message_id
from relay.store.gate import Gates
from relay.store.queue import Store
from relay.store.standing import PutOff, Report, Standings
from tests.kit.command import Desk, note_site, post
from tests.kit.messages import Claims
from workers.cli.explain import _tell, _tell_tls
from workers.cli.main import main


async def take_one(store: Store, domain: str) -> Claim:
    """Claim the one that is ready at a domain; others of its shard are given back."""
    claims = await Claims(store).take(domain)
    for claim in claims:
        if claim.delivery.domain != domain:
            await store.defer(claim, b"", wait=0, attempted=False)
    (claim,) = (claim for claim in claims if claim.delivery.domain == domain)
    return claim


async def put_off(store: Store, domain: str = "y.test", *, source: str = "") -> None:
    """Defer the one delivery that is ready at a domain, as a worker does."""
    claim = await take_one(store, domain)
    answer = {
        "address": f"x@{domain}",
        "outcome": "deferred",
        "command": "RCPT",
        "code": 451,
        "text": "4.7.1 [bold]come back later",
    }
    event = {
        "time": time.time(),
        "event": "deferred",
        "id": claim.delivery.message_id,
        "delivery": claim.delivery.id,
        "domain": domain,
        "attempt": 1,
        "source": "a",
        "host": f"mx.{domain}",
        "address": "192.0.2.9:25",
        "tls": "TLSv1.3",
        "tls_verified": "pkix",
        "recipients": [answer],
        "wait": 300,
    }
    await store.defer(claim, encode_event(event), wait=300, source=source)


async def explain(desk: Desk, message_id: str) -> dict[str, Any]:
    """Return what is told of the one delivery that waits."""
    (now,) = (await desk.ask("explain", message_id))["now"]
    return now  # type: ignore[no-any-return]


async def test_what_happened_and_what_comes_next(desk: Desk, store: Store) -> None:
    message_id = await post(store, "x@y.test", "y@y.test")
    await put_off(store, source="a")

    done = await desk.call("explain", message_id.lower())

    assert done.status == 0
    text = " ".join(done.out.split())
    assert "accepted 21 octets <s@acme.example> -> x@y.test, y@y.test" in text
    assert "attempt 1, from source a to mx.y.test 192.0.2.9:25 (TLSv1.3, verified by pkix)" in text
    assert "<x@y.test> deferred to RCPT: 451 4.7.1 [bold]come back later" in text
    assert (
        "now: y.test: next attempt in 5 min; source a must send it; 1 attempt so far" in text
        or ("now: y.test: next attempt in 4.9 min; source a must send it; 1 attempt so far" in text)
    )


async def test_due(desk: Desk, store: Store) -> None:
    message_id = await post(store, "x@y.test")
    await put_off(store)

    story = await desk.ask("explain", message_id)

    assert [event["event"] for event in story["events"]] == ["accepted", "deferred"]
    assert story["state"] == "queued"
    (now,) = story["now"]
    assert (now["state"], now["why"], now["queue"]) == ("due", "due", "acme/y.test")
    assert 290 < now["wait"] <= 300
    assert 290 < now["opens"] <= 300


async def test_ready(desk: Desk, store: Store) -> None:
    await post(store, "x@y.test")
    message_id = await post(store, "x@y.test", priority="urgent")
    last = await post(store, "x@y.test")

    now = await explain(desk, last)
    assert (now["state"], now["queue"], now["before"]) == ("ready", "acme/y.test", 1)
    assert now["why"] == "unserved"
    assert now["lane"] == "default/normal/acme/"
    now = await explain(desk, message_id)
    assert (now["queue"], now["before"]) == ("acme/y.test/urgent", 0)

    await Gates(store.link, lease=9).announce("pool:default", "source:a")
    assert (await explain(desk, last))["why"] == "look-up"
    done = await desk.call("explain", last)
    assert "now: y.test: ready, 1 before it; its site is being looked up; 0 attempts" in done.out


async def test_claimed(desk: Desk, store: Store) -> None:
    message_id = await post(store, "x@y.test")
    await Claims(store).take("y.test")
    now = await explain(desk, message_id)
    assert (now["state"], now["why"]) == ("claimed", "claimed")


async def test_suspended(desk: Desk, store: Store) -> None:
    due = await post(store, "x@y.test")
    await put_off(store)
    ready = await post(store, "x@y.test")
    await note_site(store, "big", "acme/y.test")
    await desk.ask("suspend", "--domain", "y.test", "--for", "4h", "--why", "they asked")
    now = await explain(desk, ready)
    assert now["why"] == "suspended"
    assert ": they asked; ends in " in now["text"]
    assert 14000 < now["opens"] <= 14400

    now = await explain(desk, due)
    assert now["why"] == "due"
    assert "domain=y.test suspended by ann@" in now["text"]


async def test_what_receivers_have_said(desk: Desk, store: Store) -> None:
    standings = Standings(store.link, desk.config)
    await Gates(store.link, lease=9).announce("pool:default", "source:a")
    message_id = await post(store, "x@y.test")
    await put_off(store)  # for 300 s
    await note_site(store, "big", "acme/y.test")

    await standings.report("big", [Report("a", throttled=1, rest=60, why="421 slow down")])
    assert "throttled" not in (await explain(desk, message_id))["text"]  # over before it is due
    await standings.report("big", [Report("a", throttled=1, rest=900)])
    now = await explain(desk, message_id)
    assert now["why"] == "due"
    assert now["text"].endswith("; source a was throttled at big: silent for 15 min: 421 slow down")

    said = "550 \x1b[2Jlisted\u202e [red]" + "x" * 250
    await standings.report("big", [Report("a", blocked=1, why=said)])
    text = (await explain(desk, message_id))["text"]
    assert "; all sources are quarantined at big: mail waits, nothing is sent anyway; " in text
    assert "first, source a is quarantined at big until 20" in text
    out = (await desk.call("explain", message_id)).out
    assert "550 ?[2Jlisted? [red]xxx" in out
    assert "\x1b" not in out
    assert "x..." in out
    assert "x" * 200 not in out

    await standings.report("big", [], [PutOff("acme", rest=7200, why="550 5.7.26 SPF")])
    text = (await explain(desk, message_id))["text"]
    assert "; big has put tenant acme off until 20" in text
    assert text.endswith(" (in 2 h): 550 5.7.26 SPF")


async def test_a_message_to_several_domains(desk: Desk, store: Store) -> None:
    message_id = await post(store, "x@y.test", "x@z.test", "y@y.test", "x@w.test")
    claim = await take_one(store, "z.test")
    event = {"time": time.time(), "event": "delivered", "delivery": claim.delivery.id}
    await store.settle(claim, encode_event(event))
    await put_off(store, "w.test")

    story = await desk.ask("explain", message_id)
    assert {now["domain"]: now["state"] for now in story["now"]} == {
        "y.test": "ready",
        "w.test": "due",
    }


async def test_it_has_ended(desk: Desk, store: Store) -> None:
    message_id = await post(store, "x@y.test")
    claim = await take_one(store, "y.test")
    event = {"time": time.time(), "event": "delivered", "delivery": claim.delivery.id}
    await store.settle(claim, encode_event(event))

    assert (await desk.ask("explain", message_id))["state"] == "ended"
    assert "now: ended, nothing of it is queued" in (await desk.call("explain", message_id)).out


def test_an_id_that_is_none(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "-c", desk.file, "nonsense"]) == 2
    assert "is not a message id" in capsys.readouterr().err


def test_an_unknown_id(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "-c", desk.file, make_message_id(3)]) == 1
    assert "nothing is known of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ({"tls": ""}, "in clear"),
        ({"tls": "", "tls_problem": "no STARTTLS"}, "in clear: no STARTTLS"),
        ({"tls": "TLSv1.3 X", "tls_verified": "dane-ee"}, "TLSv1.3 X, verified by dane-ee"),
        (
            {"tls": "TLSv1.3 X", "tls_verified": "", "tls_problem": "certificate expired"},
            "TLSv1.3 X, not verified: certificate expired",
        ),
    ],
)
def test_who_verified_the_host_is_told(event: dict[str, str], said: str) -> None:
    assert _tell_tls(event) == said


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (
            {"kind": "complaint", "type": "abuse", "recipient": "b@y.test", "site": "google"},
            "complaint (abuse) of <b@y.test>, sent from source a to google; reported by 192.0.2.9",
        ),
        (
            {
                "kind": "bounce",
                "type": "failed",
                "status": "5.1.1",
                "text": "550 no",
                "client": "::1",
            },
            "late bounce (failed) for somebody: 5.1.1: 550 no, sent from source a; reported by ::1",
        ),
    ],
)
def test_what_came_back_is_told(event: dict[str, str], said: str) -> None:
    known = {"source": "a", "site": "", "recipient": "", "client": "192.0.2.9"}

    assert _tell({"event": "feedback", **known, **event}) == said
