"""Who guesses tokens is slowed: counted, answered 429 for a minute, forgotten in time."""

from ipaddress import IPv4Address

import httpx2
import pytest
import trio
from trio.testing import MockClock

from tests.kit.office import HERE, Visit
from tests.workers.admin.http.conftest import TOKEN
from workers.admin.http import brake as module
from workers.admin.http.brake import Brake

CLIENT = "192.0.2.1"
STATUS = "/api/v1/status"


def guess(brake: Brake, count: int, client: str = CLIENT) -> None:
    for number in range(count):
        brake.note(client, f"wrong {number}")


async def test_ten_wrong_ones_cost_a_minute(autojump_clock: MockClock) -> None:
    brake = Brake()
    guess(brake, 9)
    assert brake.find_wait(CLIENT) == 0
    guess(brake, 10)
    assert brake.find_wait(CLIENT) == 60
    assert brake.find_wait("192.0.2.2") == 0
    await trio.sleep(59.5)
    assert brake.find_wait(CLIENT) == 1
    await trio.sleep(0.6)
    assert brake.find_wait(CLIENT) == 0


async def test_what_is_spread_over_more_than_a_minute_is_no_guessing(
    autojump_clock: MockClock,
) -> None:
    brake = Brake()
    for number in range(50):
        brake.note(CLIENT, f"wrong {number}")
        await trio.sleep(7)
        assert brake.find_wait(CLIENT) == 0


async def test_the_same_token_again_is_no_guess(autojump_clock: MockClock) -> None:
    brake = Brake()
    for _ in range(50):
        brake.note(CLIENT, "an old one")
    assert brake.find_wait(CLIENT) == 0


async def test_an_ipv6_network_is_one_client(autojump_clock: MockClock) -> None:
    brake = Brake()
    for number in range(10):
        brake.note(f"2001:db8::{number:x}", f"wrong {number}")
    assert brake.find_wait("2001:db8::ffff") == 60
    assert brake.find_wait("2001:db8:0:1::1") == 0


async def test_memory_is_bounded(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", 100)
    brake = Brake()
    for number in range(1000):
        brake.note(str(IPv4Address(0x0A000000 + number)), "wrong")
    assert len(brake) == 100
    guess(brake, 1000)
    assert (len(brake), len(brake._wrong[CLIENT])) == (100, 10)


async def show(visit: Visit, token: str) -> httpx2.Response:
    return await visit.client.get(STATUS, headers={"Authorization": f"Bearer {token}"})


async def test_the_service_answers_429(guarded: Visit) -> None:
    for number in range(10):
        assert (await show(guarded, f"wrong{number}")).status_code == 401
    answer = await show(guarded, TOKEN)
    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 60
    assert "too many wrong tokens" in answer.json()["error"]
    # Neither the form for the token lets in meanwhile; the page and probes are there.
    answer = await guarded.client.post("/login", json={"token": TOKEN}, headers=HERE)
    assert answer.status_code == 429
    assert (await guarded.client.get("/healthz")).status_code == 200
    assert (await guarded.client.get("/")).status_code == 200
    # A probe says nothing of a token: right and wrong ones are the same to it.
    answer = await guarded.client.get("/readyz", headers={"Authorization": f"Bearer {TOKEN}"})
    assert (answer.status_code, answer.json()) == (503, {"ok": False})
    # Others are not held up.
    transport = httpx2.AsyncHTTPTransport(local_address="127.0.0.2")
    url = f"http://127.0.0.1:{guarded.port}"
    async with httpx2.AsyncClient(base_url=url, transport=transport, timeout=30) as other:
        answer = await other.get(STATUS, headers={"Authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 200


async def test_guessing_at_a_probe_counts(guarded: Visit) -> None:
    for number in range(10):
        headers = {"Authorization": f"Bearer wrong{number}"}
        await guarded.client.get("/readyz", headers=headers)
    assert (await show(guarded, TOKEN)).status_code == 429


async def test_the_form_counts(guarded: Visit) -> None:
    statuses = [
        (await guarded.client.post("/login", json={"token": f"w{n}"}, headers=HERE)).status_code
        for n in range(11)
    ]
    assert statuses == [401] * 10 + [429]


async def test_who_shows_none_or_a_right_one_is_not_counted(guarded: Visit) -> None:
    for _ in range(15):
        assert (await guarded.client.get(STATUS)).status_code == 401
        assert (await show(guarded, TOKEN)).status_code == 200
