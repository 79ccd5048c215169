"""What becomes of a notice when the store has other worries."""

import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from relay.config import Config, read
from relay.events import EventLog
from relay.model import Claim, Disposition, Outcome, Recipient
from relay.store.link import Link
from relay.store.queue import Store
from tests.kit.peer import make_claim, make_delivery
from tests.kit.redis import Server
from workers.notice import Kind
from workers.postmaster import Postmaster

BOB = Recipient(b"bob@y.test", b"SUCCESS,FAILURE,DELAY")
OK = Outcome(Disposition.DELIVERED, None, ".", 250, "2.0.0", "taken")
COURTESIES = [Kind.DELAYED, Kind.RELAYED]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    document: dict[str, Any] = {"ingress": {"hostname": "gate.example.net"}}
    return read(document, base=tmp_path, environment={})


@pytest.fixture
async def nowhere(config: Config, tmp_path: Path) -> AsyncIterator[Store]:
    """A store that does not answer."""
    link = Link(f"unix://{tmp_path}/nobody", timeout=1)
    yield Store(link, config)
    await link.aclose()


def make(config: Config, store: Store) -> Postmaster:
    return Postmaster(config, store, EventLog(config.log.events))


async def tell(postmaster: Postmaster, kind: Kind, claim: Claim | None = None) -> None:
    claim = claim or make_claim(make_delivery(BOB, accepted=time.time()))
    await postmaster.tell(kind, claim, [(BOB, OK)], remote="mx.y.test", now=time.time())


@pytest.mark.parametrize("kind", COURTESIES)
async def test_courtesy_holds_up_nothing(
    config: Config,
    nowhere: Store,
    kind: Kind,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("workers.postmaster._COURTESY", 0.1)
    with trio.fail_after(2):
        await tell(make(config, nowhere), kind)
    assert f"no time to tell the sender: {kind.value}" in caplog.text


async def test_failure_waits_for_the_store(
    config: Config, nowhere: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.postmaster._COURTESY", 0.01)
    with trio.move_on_after(0.2) as scope:
        await tell(make(config, nowhere), Kind.FAILED)
    assert scope.cancelled_caught


@pytest.mark.parametrize("kind", COURTESIES)
async def test_fault_of_ours_is_not_worth_a_delivery(
    config: Config,
    nowhere: Store,
    kind: Kind,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("workers.postmaster.make_notice", lambda *_, **__: 1 / 0)
    with caplog.at_level(logging.ERROR):
        await tell(make(config, nowhere), kind)
    assert "cannot tell the sender" in caplog.text
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("kind", list(Kind))
async def test_who_is_not_to_be_told_costs_no_call(
    config: Config, nowhere: Store, kind: Kind
) -> None:
    postmaster = make(config, nowhere)
    quiet = make_claim(make_delivery(BOB, sender=b""))
    nobody = make_claim(make_delivery(BOB, sender=b"ann@[192.0.2.1]"))
    notice = make_claim(make_delivery(BOB, notice=True))
    with trio.fail_after(1):
        for claim in (quiet, nobody, notice):
            await tell(postmaster, kind, claim)


@pytest.mark.parametrize("kind", list(Kind))
async def test_same_news_make_one_notice(config: Config, server: Server, kind: Kind) -> None:
    link = Link(server.url, timeout=5)
    store = Store(link, config)
    claim = make_claim(make_delivery(BOB, accepted=time.time()))
    for _ in range(2):
        await tell(make(config, store), kind, claim)
    assert (await store.read_ledger())["notices"]["accepted"] == 1
    await link.aclose()


async def test_other_news_make_another(config: Config, server: Server) -> None:
    link = Link(server.url, timeout=5)
    store = Store(link, config)
    postmaster = make(config, store)
    claim = make_claim(make_delivery(BOB, accepted=time.time()))
    eve = msgspec.structs.replace(BOB, address=b"eve@y.test")
    for kind in Kind:
        for person in (BOB, eve):
            news = [(person, OK)]
            await postmaster.tell(kind, claim, news, remote="mx.y.test", now=time.time())
    # Of a delay there is one notice, whoever it is about.
    assert (await store.read_ledger())["notices"]["accepted"] == 5
    await link.aclose()
