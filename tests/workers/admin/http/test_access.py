"""Who is let in: tokens, cookies, this host; and who is not, each with the reason."""

import pytest

from relay.store.queue import Store
from tests.kit.office import HERE, Visit
from tests.workers.admin.http.conftest import TOKEN

BEARER = {"Authorization": f"Bearer {TOKEN}"}
PAUSE = {"source": "a"}
COOKIE = {"Cookie": f"outgate_token={TOKEN}"}
PROTECTED = ("/metrics", "/api/v1/status", "/api/v1/openapi.json", "/api/v1/events", "/api/v1/nope")


async def test_on_this_host_anybody_may_look(visit: Visit) -> None:
    assert (await visit.client.get("/api/v1/status")).status_code == 200
    assert (await visit.client.get("/metrics")).status_code == 200


@pytest.mark.parametrize("host", ["localhost:8025", "127.0.0.1", "[::1]:1", "127.1.2.3:80"])
async def test_names_of_this_host(visit: Visit, host: str) -> None:
    answer = await visit.client.get("/api/v1/status", headers={"Host": host})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8025", "[", "10.0.0.1"],
)
@pytest.mark.parametrize("path", ["/", "/api/v1/status", "/metrics", "/static/app.js"])
async def test_a_foreign_name_is_turned_away(visit: Visit, host: str, path: str) -> None:
    answer = await visit.client.get(path, headers={"Host": host})
    assert answer.status_code == 403
    assert "Host field" in answer.json()["error"]


async def test_probes_come_by_any_name(visit: Visit) -> None:
    answer = await visit.client.get("/healthz", headers={"Host": "pod.example"})
    assert answer.status_code == 200


async def test_a_foreign_name_does_not_hear_why_it_is_not_ready(visit: Visit) -> None:
    """Probes of a pod come by its name; and a browser by one that somebody has pointed here."""
    answer = await visit.client.get("/readyz", headers={"Host": "evil.example"})
    assert (answer.status_code, answer.json()) == (503, {"ok": False})
    assert (await visit.client.get("/readyz")).json()["why"]


@pytest.mark.parametrize("name", ["suspend", "resume", "retry", "hold", "bounce"])
async def test_a_form_of_another_site_changes_nothing(visit: Visit, name: str) -> None:
    answer = await visit.client.post(f"/api/v1/{name}", json={"all": True})
    assert (answer.status_code, "X-Outgate" in answer.json()["error"]) == (403, True)
    assert (await visit.ask("status"))["suspensions"] == []


async def test_a_script_of_another_site_changes_nothing(visit: Visit) -> None:
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{visit.port + 1}"):
        headers = {**HERE, "Origin": origin}
        answer = await visit.client.post("/api/v1/suspend", json=PAUSE, headers=headers)
        assert answer.status_code == 403
    headers = {**HERE, "Origin": f"http://127.0.0.1:{visit.port}"}
    answer = await visit.client.post("/api/v1/suspend", json=PAUSE, headers=headers)
    assert answer.status_code == 200


async def test_nobody_else_gets_leave_to_read(visit: Visit) -> None:
    """No CORS: a browser keeps from scripts of others what we answer."""
    headers = {"Origin": "http://evil.example"}
    answer = await visit.client.get("/api/v1/status", headers=headers)
    assert "access-control-allow-origin" not in answer.headers
    answer = await visit.client.options("/api/v1/suspend", headers=headers)
    assert answer.status_code in (403, 405)


@pytest.mark.parametrize("path", PROTECTED)
async def test_without_a_token_nothing_is_seen(guarded: Visit, path: str) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Cookie": "outgate_token=wrong"},
        {"Cookie": "outgate_token="},
        HERE,
    ):
        answer = await guarded.client.get(path, headers=headers)
        assert answer.status_code == 401, headers
        assert "token" in answer.json()["error"]
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert TOKEN not in answer.text


async def test_with_a_token_all_is_seen_from_any_host(guarded: Visit) -> None:
    headers = {**BEARER, "Host": "admin.example.net"}
    assert (await guarded.client.get("/api/v1/status", headers=headers)).status_code == 200
    assert (await guarded.client.get("/metrics", headers=headers)).status_code == 200


async def test_the_page_and_probes_need_no_token(guarded: Visit) -> None:
    for path in ("/", "/static/app.js", "/healthz"):
        assert (await guarded.client.get(path)).status_code == 200, path
    assert (await guarded.client.get("/readyz")).status_code in (200, 503)


async def test_a_token_changes_things_without_more_ado(guarded: Visit) -> None:
    assert (
        await guarded.client.post("/api/v1/suspend", json=PAUSE, headers=HERE)
    ).status_code == 401
    answer = await guarded.client.post("/api/v1/suspend", json=PAUSE, headers=BEARER)
    assert answer.status_code == 200


@pytest.mark.parametrize("shown", [{}, {"Authorization": f"Bearer {TOKEN}x"}, HERE])
async def test_why_it_is_not_ready_is_told_with_a_token_only(
    guarded: Visit, shown: dict[str, str]
) -> None:
    answer = await guarded.client.get("/readyz", headers=shown)
    assert (answer.status_code, answer.json()) == (503, {"ok": False})
    for headers in (BEARER, COOKIE):
        answer = await guarded.client.get("/readyz", headers=headers)
        assert answer.status_code == 503
        assert answer.json()["why"] == ["no source is alive: start a worker"]


async def test_ready_is_told_without_a_token(guarded: Visit, store: Store) -> None:
    now = int((await store.link.call("TIME"))[0]) * 1000
    await store.link.call("ZADD", "{og0}:present", now, "source:a")
    answer = await guarded.client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"ok": True})


async def test_a_cookie_looks_but_changes_nothing_by_itself(guarded: Visit) -> None:
    """The browser sends it whoever asks, from another port of this host, too."""
    assert (await guarded.client.get("/api/v1/status", headers=COOKIE)).status_code == 200
    answer = await guarded.client.post("/api/v1/suspend", json=PAUSE, headers=COOKIE)
    assert answer.status_code == 403
    answer = await guarded.client.post("/api/v1/suspend", json=PAUSE, headers={**COOKIE, **HERE})
    assert answer.status_code == 200


async def test_logging_in_sets_a_cookie_that_no_script_reads(guarded: Visit) -> None:
    answer = await guarded.client.post("/login", json={"token": TOKEN}, headers=HERE)
    assert answer.status_code == 200
    cookie = answer.headers["set-cookie"].lower()
    assert {"httponly", "samesite=strict", "path=/"} <= set(cookie.split("; "))
    assert (await guarded.client.get("/api/v1/status")).status_code == 200  # the client keeps it
    await guarded.client.post("/logout", headers=HERE)
    assert (await guarded.client.get("/api/v1/status")).status_code == 401


async def test_logging_in_with_what_is_no_token(guarded: Visit) -> None:
    answer = await guarded.client.post("/login", json={"token": "wrong"}, headers=HERE)
    assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)
    answer = await guarded.client.post("/login", json={"token": TOKEN})
    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
