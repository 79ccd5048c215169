"""The description of the HTTP interface (OpenAPI 3.1), made of the routes and their types."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from relay import __version__
from workers.admin.http.answers import Health, Problem
from workers.admin.http.routes import Route

_REFERENCES = "#/components/schemas/{name}"
_ERRORS = {
    400: "what was asked makes no sense",
    401: "a token is needed",
    403: "not from there",
    404: "there is no such thing",
    413: "the body is too long (no text)",
    415: "the body is no JSON",
    429: "too many wrong tokens from this address: Retry-After says how long to wait",
    503: "the store does not answer, or there are too many at a time",
}
_TEXT = (
    "What an outbound mail gateway does, and what operators do to it. Spans are seconds, moments are "
    "seconds since 1970, where nothing else is said."
)
_PARAMETER = re.compile(r"{(\w+)}")


def describe_interface(routes: Sequence[Route]) -> dict[str, Any]:
    """Return the description."""
    shapes = [route.answer for route in routes if not isinstance(route.answer, str)]
    shapes += [shape for route in routes for shape in (route.body, route.query) if shape]
    spelt, components = msgspec.json.schema_components([*shapes, Problem], ref_template=_REFERENCES)
    schemas = list(zip([*shapes, Problem], spelt, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _describe(
            route, schemas, components
        )
    queries = {route.query.__name__ for route in routes if route.query}
    return {
        "openapi": "3.1.0",
        "info": {"title": "outgate", "version": __version__, "description": _TEXT},
        "paths": paths,
        "components": {
            # Queries are spelt out as parameters, where they are used.
            "schemas": {name: one for name, one in components.items() if name not in queries},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "admin.token_file"}
            },
        },
        # Without tokens, on loopback, nobody needs one.
        "security": [{"token": []}, {}],
    }


def _find(shape: object, schemas: list[tuple[Any, dict[str, Any]]]) -> dict[str, Any]:
    return next(schema for known, schema in schemas if known == shape)


def _describe(
    route: Route, schemas: list[tuple[Any, dict[str, Any]]], components: dict[str, Any]
) -> dict[str, Any]:
    is_text = isinstance(route.answer, str)
    schema = {"type": "string"} if is_text else _find(route.answer, schemas)
    kind = route.answer if is_text else "application/json"
    problem = {"application/json": {"schema": _find(Problem, schemas)}}
    told: dict[str, Any] = {
        "summary": route.summary,
        "operationId": _name(route),
        "parameters": [*_list_places(route), *_list_parameters(route, components)],
        "responses": {
            "200": {"description": "as asked", "content": {kind: {"schema": schema}}},
            **{
                str(status): {"description": _ERRORS[status], "content": problem}
                for status in _list_errors(route)
            },
        },
    }
    if route.is_open:
        told["security"] = []
    if route.path == "/readyz":
        # Ready or not, it says so; who shows a token hears why.
        either = {"anyOf": [schema, _find(Health, schemas)]}
        for status in ("200", "503"):
            told["responses"][status]["content"] = {kind: {"schema": either}}
        told["security"] = [{"token": []}, {}]
    if route.method == "POST":
        told["parameters"].append(_HEADER)
    if route.body is not None:
        content = {"application/json": {"schema": _find(route.body, schemas)}}
        told["requestBody"] = {"required": True, "content": content}
    return told


_HEADER = {
    "name": "X-Outgate",
    "in": "header",
    "required": False,
    "description": '"1"; needed where no token is shown as `Authorization`',
    "schema": {"type": "string", "enum": ["1"]},
}


def _list_errors(route: Route) -> list[int]:
    errors = {403, 503, *route.known}
    if not route.is_open:
        errors |= {401, 429}
    if route.query is not None or route.body is not None or "{" in route.path:
        errors.add(400)
    if route.body is not None:
        errors |= {401, 413, 415, 429}
    return sorted(errors)


def _list_places(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(route.path)
    ]


def _list_parameters(route: Route, components: dict[str, Any]) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    shape = components[route.query.__name__]
    return [
        {
            "name": name,
            "in": "query",
            "required": name in shape.get("required", []),
            "schema": schema,
        }
        for name, schema in shape["properties"].items()
    ]


def _name(route: Route) -> str:
    """Return "getQueuesTenantDomain"."""
    words = re.findall(r"\w+", route.path.removeprefix("/api/v1"))
    return route.method.lower() + "".join(word.capitalize() for word in words)
