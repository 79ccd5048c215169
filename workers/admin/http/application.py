"""The application: routes behind the door, each with its deadline, and errors in words."""

import logging
from pathlib import Path

import trio
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.routing import Route as Endpoint
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relay.errors import OutgateError, StartError, StoreError, StoreUnavailable, flatten
from workers.admin.http.access import Access
from workers.admin.http.acts import Acts
from workers.admin.http.answers import Json, Wrong, refuse
from workers.admin.http.events import EventStream
from workers.admin.http.openapi import describe_interface
from workers.admin.http.reads import Reads
from workers.admin.http.routes import Handler, Route, list_routes
from workers.admin.http.tokens import Tokens
from workers.admin.office import Office

_log = logging.getLogger("outgate.admin")

_PAGE = Path(__file__).parents[1] / "page"
_PATIENCE = 10.0  # seconds for an answer that is read from the store
# Nothing of another origin, no script or style in the page itself, and nobody may put it into a frame.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def make_application(office: Office, tokens: Tokens) -> Starlette:
    """Return what a Server serves."""
    reads, acts, stream = Reads(office), Acts(office, tokens), EventStream(office)
    routes = list_routes(reads, acts, stream)
    description = describe_interface(routes)

    async def openapi(_: Request) -> Response:
        return Json(description)

    async def page(_: Request) -> Response:
        return FileResponse(_PAGE / "index.html", headers={"Cache-Control": "no-cache"})

    mounted: list[BaseRoute] = [
        *(Endpoint(one.path, _guard(office, one), methods=[one.method]) for one in routes),
        Endpoint("/api/v1/openapi.json", openapi, methods=["GET"]),
        Endpoint("/", page, methods=["GET"]),
        Mount("/static", _Static(directory=_PAGE, check_dir=False)),
    ]
    return Starlette(
        routes=mounted,
        middleware=[Middleware(_Headers), Middleware(Access, tokens=tokens)],
        exception_handlers={
            Wrong: _tell_wrong,
            HTTPException: _tell_status,
            OutgateError: _tell_ours,
            ExceptionGroup: _tell_group,
            trio.TooSlowError: _tell_slow,
            Exception: _tell_bug,
        },
    )


def _guard(office: Office, route: Route) -> Handler:
    """Return a handler that neither waits for a store that is away, nor for ever."""
    handler = route.handler
    if route.is_open:
        return handler
    if route.waits:

        async def act(request: Request) -> Response:
            if route.method == "POST":
                office.pulse.check()
            return await handler(request)

        return act

    async def read(request: Request) -> Response:
        office.pulse.check()
        with trio.fail_after(_PATIENCE):
            async with office.reads:
                return await handler(request)

    return read


class _Static(StaticFiles):
    """The page's files; a browser asks each time whether they are still the same (ETag)."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


class _Headers:
    """What each answer says to browsers."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._application(scope, receive, send_more)


# -- errors ---------------------------------------------------------------------------------------


async def _tell_wrong(_: Request, error: Exception) -> Response:
    assert isinstance(error, Wrong)
    return refuse(error.status, error.text)


async def _tell_status(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    texts = {404: "there is nothing here: see /api/v1/openapi.json", 405: "not with this method"}
    answer = refuse(error.status_code, texts.get(error.status_code, error.detail))
    answer.headers.update(error.headers or {})
    return answer


async def _tell_ours(_: Request, error: Exception) -> Response:
    if not isinstance(error, StoreUnavailable | StoreError | StartError):
        _log.error("a request failed: %s", error)
    return refuse(503, str(error))


async def _tell_group(request: Request, error: Exception) -> Response:
    """What comes out of nurseries is in groups: the first of ours is what there is to say."""
    assert isinstance(error, ExceptionGroup)
    leaves = list(flatten(error))
    ours = [leaf for leaf in leaves if isinstance(leaf, OutgateError)]
    if len(ours) < len(leaves):
        path = request.scope["raw_path"].decode("ascii", "replace")
        _log.error("%s %s failed", request.method, path, exc_info=error)
        return await _tell_bug(request, error)
    return await _tell_ours(request, ours[0])


async def _tell_slow(_: Request, __: Exception) -> Response:
    return refuse(503, f"the store has taken longer than {_PATIENCE:g} s: try again")


async def _tell_bug(_: Request, __: Exception) -> Response:
    return refuse(500, "this went wrong here, not with you: the log of outgate admin has more")
