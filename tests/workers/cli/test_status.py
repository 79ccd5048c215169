"""``outgate status`` as a person runs it, on a real store."""

import datetime as dt
from pathlib import Path

import pytest
import trustme

from relay.store.gate import Gates
from relay.store.queue import Store
from tests.kit.command import Desk, make_desk, post
from tests.kit.messages import EVENT, Claims
from tests.kit.pairs import issue, write_pair
from tests.kit.redis import Server
from workers.cli.main import main


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


async def test_the_ledger(desk: Desk, store: Store) -> None:
    await post(store, "x@b.test", "y@b.test")

    state = await desk.ask("status")

    assert state["ledger"] == {
        "accepted": 2,
        "delivered": 0,
        "bounced": 0,
        "queued": 2,
        "unknown": 0,
    }
    assert state["store"]["weaknesses"] == []


async def test_what_waits(desk: Desk, store: Store) -> None:
    for _ in range(4):
        await post(store, "x@b.test", accepted=1000.0)
    first, _ = await Claims(store).take("b.test", most=2)
    await store.defer(first, EVENT, wait=60)

    counts = (await desk.ask("status"))["deliveries"]

    assert counts.pop("oldest") > 1_000_000_000
    assert counts == {"queues": 1, "ready": 2, "due": 1, "claimed": 1, "forwarding": 0}


async def test_what_is_suspended_gives_the_terminal_no_orders(desk: Desk) -> None:
    await desk.ask("suspend", "--site", "x\x1b[2J", "--why", "a\x9b2Jb\nc")
    done = await desk.call("status")
    assert "site=x?[2J" in done.out
    assert not {"\x1b", "\x9b"} & set(done.out)
    assert "a?2Jb?c" in done.out


async def test_who_is_there_and_what_is_suspended(desk: Desk, store: Store) -> None:
    gates = Gates(store.link, lease=60)
    await gates.announce("worker:1", "worker:2", "source:a")
    await desk.ask("suspend", "--site", "big", "--why", "asked to")

    state = await desk.ask("status")

    assert (state["workers"], state["sources"]) == (2, {"a": True})
    (one,) = state["suspensions"]
    assert (one["what"], one["why"], one["until"]) == ("site=big", "asked to", None)
    done = await desk.call("status")
    assert "ledger: adds up (accepted = delivered + bounced + queued)" in done.out
    assert "sources: 1 of 1 alive, in 2 worker processes" in done.out
    assert "suspended: site=big suspended by ann@" in done.out


async def test_a_source_that_nobody_has(desk: Desk) -> None:
    done = await desk.call("status")
    assert "sources: 0 of 1 alive; not: a, in 0 worker processes" in done.out


def test_the_ledger_does_not_add_up(
    desk: Desk, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    with server.client() as client:
        client.hset("{og3}:ledger", "accepted", 1)

    assert main(["status", "-c", desk.file]) == 1
    assert "does NOT add up" in capsys.readouterr().out


async def test_certificates_and_how_long_they_last(
    server: Server, tmp_path: Path, authority: trustme.CA
) -> None:
    now = dt.datetime.now(dt.UTC)
    more = ""
    for name, days in (("", 60.5), ("soon-", 5.5), ("old-", -3.5)):
        issued = issue(authority, f"{name}gw.test", now=now, days=days)
        pair = write_pair(tmp_path, issued, name=name)
        place = "[[ingress.tls.more]]" if name else "[ingress.tls]"
        more += f'{place}\ncertificate = "{pair.certificate}"\nkey = "{pair.key}"\n'
    desk = make_desk(tmp_path, server, tables=more)

    state = await desk.ask("status")

    assert [(one["names"], one["days"]) for one in state["certificates"]] == [
        (["gw.test"], 60), (["soon-gw.test"], 5), (["old-gw.test"], -4),
    ]  # fmt: skip
    expires = dt.datetime.fromisoformat(state["certificates"][0]["expires"])
    assert abs((expires - now).total_seconds() - 60.5 * 86400) < 2
    assert not state["ready"]["ok"]
    (why,) = state["ready"]["why"]
    assert why.startswith("ingress.tls.more[1]: the certificate has expired, on ")

    lines = (await desk.call("status")).out.splitlines()
    assert [line for line in lines if line.startswith("not ready: ")] == [f"not ready: {why}"]
    assert sum("old-gw.test" in line for line in lines) == 1
    (soon,) = [line for line in lines if ": soon-gw.test (" in line]
    assert soon.startswith("the certificate is good until ")
    assert soon.endswith(": renew it")


async def test_certificate_that_is_none_is_not_ready(server: Server, tmp_path: Path) -> None:
    (tmp_path / "c.pem").write_text("hello")
    tables = '[ingress.tls]\ncertificate = "c.pem"\nkey = "c.pem"\n'
    state = await make_desk(tmp_path, server, tables=tables).ask("status")

    assert state["certificates"] == []
    assert state["ready"]["why"] == [
        f"ingress.tls: expected a certificate chain in PEM ({tmp_path}/c.pem, {tmp_path}/c.pem)"
    ]


async def test_without_certificates_there_is_nothing_amiss(desk: Desk) -> None:
    state = await desk.ask("status")

    assert (state["ready"], state["certificates"]) == ({"ok": True, "why": []}, [])


def test_a_store_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "outgate.toml"
    path.write_text(f'[store]\nurl = "unix://{tmp_path}/nobody"\n[ingress]\nhostname = "gw"\n')

    assert main(["status", "-c", str(path)]) == 1
    assert "start it, or correct store.url" in capsys.readouterr().err
