"""Each service of the Compose file runs from its command, and they work together. Without containers."""

import json
import smtplib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
import trio

from relay.config.storeurl import add_password
from relay.store.ping import Answer, ping
from tests.deploy.test_compose import SERVICES
from tests.deploy.test_monitoring import RULES
from tests.kit.nameserver import Nameserver, open_nameserver
from tests.kit.receiver import Receiver, open_receiver
from tests.kit.uncontained import RUNNING, Uncontained, find_missing

pytestmark = pytest.mark.slow

_CLIENT = "127.0.0.77"
_TABLES = """
[checks]
interval = 0
[[tenant]]
name = "acme"
domains = ["acme.example"]
networks = ["{client}"]
[[route]]
domains = ["y.test"]
hosts = ["127.0.0.1:{port}"]
"""
_SOURCE = '[[source]]\nname = "out-8"'
_WORKERS = tuple(("worker", number) for number in (1, 2, 3))
_INGRESS = (("ingress", 1), ("ingress", 2))


@asynccontextmanager
async def open_stack(base: Path, receiver: Receiver) -> AsyncIterator[Uncontained]:
    """Give a place to run services in; the name server answers as Docker's would, too."""
    async with open_nameserver({}, ttl=1) as names:
        stack = Uncontained(base, _make_edits(names, receiver))
        names.zone = {
            "ingress": {"A": [stack.find_address(*one) for one in _INGRESS]},
            "_spf.google.com": {"TXT": ['"v=spf1 ip4:192.0.2.0/24 -all"']},
        }
        try:
            stack.start("store")
            await stack.wait_until_well(("store", 1))
            yield stack
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(stack.stop)


def _make_edits(names: Nameserver, receiver: Receiver) -> dict[str, str]:
    tables = _TABLES.format(client=_CLIENT, port=receiver.port)
    return {
        "127.0.0.11:53": str(names.endpoint),
        "trust_ad = false": f'trust_ad = false\nnameservers = ["{names.endpoint}"]',
        _SOURCE: f"{tables}\n{_SOURCE}",
        "scrape_interval: 15s": "scrape_interval: 1s",  # a test does not wait for the second round
    }


def send(stack: Uncontained, count: int) -> None:
    """Hand in so many messages, each over a connection of its own, as a client of the balancer."""
    for number in range(count):
        with smtplib.SMTP(
            stack.find_address("balancer"), 2525, timeout=60, source_address=(_CLIENT, 0)
        ) as client:
            client.sendmail("ann@acme.example", "bob@y.test", f"Subject: {number}\r\n\r\nhello\r\n")


def list_clients(stack: Uncontained) -> dict[int, set[str]]:
    """Return whose connections each ingress took messages from."""
    found: dict[int, set[str]] = {}
    for _, number in _INGRESS:
        lines = stack.read_output("ingress", number).splitlines()
        events = [json.loads(line) for line in lines if line.startswith("{")]
        found[number] = {e["client"] for e in events if e.get("event") == "accepted"}
    return found


@pytest.mark.skipif(bool(find_missing("balancer")), reason=find_missing("balancer") or "")
async def test_mail_goes_from_the_balancer_to_receivers(tmp_path: Path) -> None:
    async with open_receiver() as receiver, open_stack(tmp_path, receiver) as stack:
        for service, number in (*_INGRESS, *_WORKERS, ("balancer", 1)):
            stack.start(service, number)
        await stack.wait_until_well(*_INGRESS, *_WORKERS, ("balancer", 1))
        await wait_for_both(stack)

        await trio.to_thread.run_sync(send, stack, 60)
        await receiver.wait_until(lambda: receiver.count_taken() >= 60, seconds=60)

        # The balancer says whose connection it is: from its own address nobody may send.
        assert list_clients(stack) == {1: {_CLIENT}, 2: {_CLIENT}}
        # Each worker sends from the address that it has.
        assert {*receiver.count_by_client()} == {stack.find_address(*one) for one in _WORKERS}

        # docker compose up --scale worker=5: two more addresses of the range send, too.
        more = (("worker", 4), ("worker", 5))
        for one in more:
            stack.start(*one)
        await stack.wait_until_well(*more)
        with trio.fail_after(90):
            while len(receiver.count_by_client()) < 5:
                await trio.to_thread.run_sync(send, stack, 5)

        # One ingress goes, as `docker compose up --scale ingress=1` has it go.
        assert await trio.to_thread.run_sync(stack.end, "ingress", 1) == 0
        await trio.to_thread.run_sync(send, stack, 10)
        await wait_until_nothing_waits(stack)
        for one in _WORKERS:
            assert await trio.to_thread.run_sync(stack.end, *one) == 0


async def test_the_store_wants_its_password(tmp_path: Path) -> None:
    async with open_receiver() as receiver, open_stack(tmp_path, receiver) as stack:
        url = f"redis://{stack.find_address('store')}:6379/0"
        password = stack.find_secret("store_password").read_text().strip()

        assert await trio.to_thread.run_sync(ping, url) is not Answer.PONG
        assert await trio.to_thread.run_sync(ping, add_password(url, password)) is Answer.PONG

        # The health check says what the server says, and not that it said something.
        stack.find_secret("store_password").write_text("wrong")
        assert not await trio.to_thread.run_sync(stack.check, "store")


def test_all_run_here_but_the_one_that_debian_has_not() -> None:
    assert SERVICES.keys() - set(RUNNING) == {"grafana"}


async def wait_until_nothing_waits(stack: Uncontained) -> None:
    """Wait until all that was accepted is delivered."""
    with trio.fail_after(60):
        while True:
            ledger = (await trio.to_thread.run_sync(stack.ask, "worker", "status"))["ledger"]
            if ledger["queued"] == 0:
                assert ledger["delivered"] == ledger["accepted"] >= 70
                return


async def wait_for_both(stack: Uncontained) -> None:
    """Wait until the balancer has found both: messages have come to each."""
    with trio.fail_after(60):
        while True:
            lines = [stack.read_output("ingress", number) for _, number in _INGRESS]
            if all("accepted" in line for line in lines):
                return
            await trio.to_thread.run_sync(send, stack, 1)


@pytest.mark.skipif(bool(find_missing("prometheus")), reason=find_missing("prometheus") or "")
async def test_prometheus_sees_the_admin_service(tmp_path: Path) -> None:
    async with open_receiver() as receiver, open_stack(tmp_path, receiver) as stack:
        stack.start("admin")
        stack.start("prometheus")
        await stack.wait_until_well(("admin", 1), ("prometheus", 1))
        admin = f"http://{stack.find_address('admin')}:8025"
        prometheus = f"http://{stack.find_address('prometheus')}:9090/api/v1"
        token = stack.find_secret("admin_token").read_text().strip()
        async with httpx2.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"{admin}/metrics")).status_code == 401
            headers = {"Authorization": f"Bearer {token}"}
            assert (await client.get(f"{admin}/metrics", headers=headers)).status_code == 200
            with trio.fail_after(90):
                while (await query(client, prometheus, "outgate_store_up")) != ["1"]:  # noqa: ASYNC110
                    await trio.sleep(0.5)
            assert await query(client, prometheus, 'up{job="outgate"}') == ["1"]
            groups = (await client.get(f"{prometheus}/rules")).json()["data"]["groups"]
        assert sum(len(group["rules"]) for group in groups) == len(RULES)
        assert await trio.to_thread.run_sync(stack.end, "admin") == 0


async def query(client: httpx2.AsyncClient, prometheus: str, asked: str) -> list[str]:
    """Return the values that Prometheus has for a query."""
    answer = await client.get(f"{prometheus}/query", params={"query": asked})
    return [one["value"][1] for one in answer.json()["data"]["result"]]
