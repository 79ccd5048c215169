"""The page: served as it is, and nothing of anybody else's in it, around it, or by it."""

import pytest

from tests.kit.office import Visit

STRICT = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/static/app.js", "text/javascript"),
        ("/static/style.css", "text/css"),
        ("/static/icon.svg", "image/svg+xml"),
    ],
)
async def test_files_of_the_page(visit: Visit, path: str, kind: str) -> None:
    answer = await visit.client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(kind)
    assert answer.headers["cache-control"] == "no-cache"
    again = await visit.client.get(path, headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code in (200, 304)


@pytest.mark.parametrize(
    "path", ["/", "/static/app.js", "/api/v1/status", "/nope", "/healthz", "/api/v1/suspend"]
)
async def test_browsers_are_told_to_be_strict(visit: Visit, path: str) -> None:
    headers = (await visit.client.get(path)).headers
    assert headers["content-security-policy"] == STRICT
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"


async def test_what_is_refused_at_the_door_is_strict_too(visit: Visit) -> None:
    headers = (await visit.client.get("/", headers={"Host": "evil.example"})).headers
    assert headers["content-security-policy"] == STRICT
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../service.py",
        "/static/%2e%2e/service.py",
        "/static/..%2fservice.py",
        "/static//etc/passwd",
        "/static/nope.js",
        "/static/",
    ],
)
async def test_there_is_no_way_out_of_the_page(visit: Visit, path: str) -> None:
    answer = await visit.client.get(path)
    assert answer.status_code == 404
