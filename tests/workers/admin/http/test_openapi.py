"""The description says what is there, and what is there is described."""

from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from relay.store.queue import Store
from tests.kit.command import post
from tests.kit.office import HERE, Visit
from workers.admin.http.application import make_application
from workers.admin.http.tokens import Tokens

# What is wanted where a path or a query needs something.
_PLACES = {"tenant": "acme", "domain": "y.test"}
_QUERIES = {"/api/v1/history/standing": {"source": "a", "site": "big"}}
_BODIES = {"/login": {"token": "x"}}


@pytest.fixture
async def description(visit: Visit) -> dict[str, Any]:
    said: dict[str, Any] = await visit.ask("openapi.json")
    return said


async def test_it_is_valid(description: dict[str, Any]) -> None:
    validate(description, cls=OpenAPIV31SpecValidator)
    assert description["openapi"].startswith("3.1")


async def test_each_path_answers_as_described(
    visit: Visit, description: dict[str, Any], store: Store
) -> None:
    message = await post(store, "bob@y.test")
    await visit.refresh()
    asked = 0
    for path, methods in description["paths"].items():
        for method, told in methods.items():
            names = [p["name"] for p in told["parameters"] if p["in"] == "path"]
            target = path.format(**{n: message if n == "id" else _PLACES[n] for n in names})
            if path == "/api/v1/events":
                continue  # it does not end: test_events.py
            body = _BODIES.get(path, {"site": "nowhere"}) if method == "post" else None
            answer = await visit.client.request(
                method, target, params=_QUERIES.get(path), json=body, headers=HERE
            )
            assert str(answer.status_code) in told["responses"], (path, answer.status_code)
            kind = answer.headers["content-type"].partition(";")[0]
            assert kind in told["responses"][str(answer.status_code)]["content"]
            assert answer.status_code in (200, 401 if path == "/login" else 200, 503), (
                path,
                answer,
            )
            asked += 1
    assert asked > 20


async def test_what_is_not_described_is_not_there(
    visit: Visit, description: dict[str, Any]
) -> None:
    routes = make_application(visit.office, Tokens("")).routes
    mounted = {getattr(route, "path", "") for route in routes}
    assert mounted - set(description["paths"]) == {"/api/v1/openapi.json", "/", "/static"}


async def test_whether_it_is_ready_is_told_with_and_without_reasons(
    description: dict[str, Any],
) -> None:
    told = description["paths"]["/readyz"]["get"]
    assert told["security"] == [{"token": []}, {}]
    for status in ("200", "503"):
        shapes = told["responses"][status]["content"]["application/json"]["schema"]["anyOf"]
        assert [one["$ref"].rpartition("/")[2] for one in shapes] == ["Readiness", "Health"]


async def test_parameters_and_bodies_are_described(description: dict[str, Any]) -> None:
    queues = description["paths"]["/api/v1/queues"]["get"]["parameters"]
    assert {one["name"] for one in queues} == {"tenant", "domain", "site", "limit", "after"}
    search = description["paths"]["/api/v1/messages"]["get"]["parameters"]
    assert {"from", "to", "message_id", "outcome"} <= {one["name"] for one in search}
    suspend = description["components"]["schemas"]["SuspendOrder"]["properties"]
    assert {"for", "all", "why", "who"} <= set(suspend)
    assert not any(name.endswith("Query") for name in description["components"]["schemas"])
