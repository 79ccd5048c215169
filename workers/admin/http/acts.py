"""What is done: operators' commands over HTTP. Each is on the record before it begins."""

from collections.abc import Callable
from typing import TypeVar

import msgspec
import trio
from starlette.requests import Request
from starlette.responses import Response

from relay.config.units import parse_seconds
from workers.admin.http import answers
from workers.admin.http.access import COOKIE, WHO, find_client
from workers.admin.http.answers import Json, Wrong, refuse
from workers.admin.http.tokens import Tokens
from workers.admin.office import Office
from workers.operations.bounce import TEXT, bounce
from workers.operations.decision import Decision
from workers.operations.hold import hold
from workers.operations.resume import resume
from workers.operations.retry import retry
from workers.operations.suspend import check, suspend
from workers.views.selection import Selection, make_selection

_LONGEST = 60.0  # seconds; what is left by then is for the next call
_KEPT = 30 * 86400  # seconds that a browser keeps its token

Order = TypeVar("Order", bound=answers.Order)
Body = TypeVar("Body")


class Patience:
    """A Watch (workers/operations/seizure.py): a request is interrupted when it has taken too long,
    nobody waits for it any more, or the service stops; the same request again goes on with the rest."""

    def __init__(self, stop: trio.Event, request: Request) -> None:
        self._stop = stop
        self._request = request

    async def run(self, interrupt: Callable[[], None]) -> None:
        """Interrupt in time."""
        with trio.move_on_after(_LONGEST) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._wait_gone, scope)
                await self._stop.wait()
                scope.cancel()
        interrupt()

    async def _wait_gone(self, scope: trio.CancelScope) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass  # what is left of the body
        scope.cancel()

    def tell(self, deliveries: int) -> None:
        """Nobody reads progress here: events tell of each."""


class Acts:
    """The handlers. All of them raise Wrong, StoreUnavailable, StoreError, StartError."""

    def __init__(self, office: Office, tokens: Tokens) -> None:
        self._office = office
        self._config = office.config
        self._store = office.acting
        self._tokens = tokens

    # -- who is there -------------------------------------------------------------------------

    async def login(self, request: Request) -> Response:
        """Take a token once, and have the browser show it from then on."""
        order = await _read(request, answers.Login)
        if not self._tokens.find(order.token):
            self._tokens.brake.note(find_client(request), order.token)
            return refuse(401, "this token is not valid: it is a line of admin.token_file")
        answer = Json(answers.Health(ok=True))
        answer.set_cookie(
            COOKIE, order.token, max_age=_KEPT, path="/", httponly=True, samesite="strict"
        )
        return answer

    async def logout(self, _: Request) -> Response:
        """Have the browser forget the token."""
        answer = Json(answers.Health(ok=True))
        answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return answer

    # -- what is done -------------------------------------------------------------------------

    async def suspend(self, request: Request) -> Response:
        """Let a source, site, tenant or domain send nothing for a while."""
        order = await _read(request, answers.SuspendOrder)
        chosen = _choose(order)
        span = _read_span(order.span)
        try:
            check(self._config, chosen)
        except ValueError as error:
            raise Wrong(400, str(error)) from None
        async with self._office.acts, await self._decide(request, order) as decided:
            return Json(await suspend(self._store, self._config, chosen, span, decided))

    async def resume(self, request: Request) -> Response:
        """End a suspension before its time."""
        order = await _read(request, answers.ResumeOrder)
        chosen = _choose(order)
        async with self._office.acts, await self._decide(request, order) as decided:
            return Json(await resume(self._store, self._config, chosen, order.everything, decided))

    async def retry(self, request: Request) -> Response:
        """Try now what waits."""
        order = await _read(request, answers.DeliveriesOrder)
        chosen = _choose(order, order.ids)
        async with self._office.acts, await self._decide(request, order) as decided:
            watch = Patience(self._office.stop, request)
            done = await retry(self._store, self._config, chosen, decided, watch, dry=order.dry_run)
            return Json(done)

    async def hold(self, request: Request) -> Response:
        """Let deliveries wait until somebody says otherwise."""
        order = await _read(request, answers.DeliveriesOrder)
        chosen = _choose(order, order.ids)
        async with self._office.acts, await self._decide(request, order) as decided:
            watch = Patience(self._office.stop, request)
            done = await hold(self._store, self._config, chosen, decided, watch, dry=order.dry_run)
            return Json(done)

    async def bounce(self, request: Request) -> Response:
        """End deliveries now, and tell their senders."""
        order = await _read(request, answers.BounceOrder)
        chosen = _choose(order, order.ids)
        async with self._office.acts, await self._decide(request, order) as decided:
            done = await bounce(
                self._store,
                self._config,
                chosen,
                decided,
                Patience(self._office.stop, request),
                text=order.text.strip() or TEXT,
                silent=order.silent,
                dry=order.dry_run,
            )
            return Json(done)

    async def _decide(self, request: Request, order: answers.Order) -> Decision:
        """Put it on the record: who, from where, why, and what was asked for. Raises StartError."""
        client = request.client.host if request.client else "?"
        token = request.scope[WHO]
        # Who has a token may say a name, but not hide which token it was.
        name = (
            f"{order.who} (token {token})"
            if order.who and token
            else order.who or token or "somebody"
        )
        asked = {k: v for k, v in msgspec.to_builtins(order).items() if v and k not in _NO_PART}

        def decide() -> Decision:
            return Decision(
                self._config,
                request.scope["path"].rpartition("/")[2],
                asked,
                who=f"{name}@admin from {client}",
                why=order.why,
            )

        return await trio.to_thread.run_sync(decide)


_NO_PART = frozenset(("who", "why"))
_WORDS = ("tenant", "domain", "site", "source", "text", "who", "why")


async def _read(request: Request, shape: type[Body]) -> Body:
    """Return a request's body. Raises Wrong."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Wrong(415, "the body must be JSON: Content-Type: application/json")
    try:
        return msgspec.json.decode(await request.body(), type=shape)
    except msgspec.MsgspecError as error:
        raise Wrong(400, f"body: {error}") from None


def _choose(order: answers.Order, ids: tuple[str, ...] = ()) -> Selection:
    # Whoever reads the record may do so on a terminal, which must not take orders from it.
    for name in _WORDS:
        if not getattr(order, name, "").isprintable():
            raise Wrong(400, f"{name}: no line ends or control characters, please")
    try:
        chosen = make_selection(order.tenant, order.domain, order.site, order.source, ids)
    except ValueError as error:
        raise Wrong(400, str(error)) from None
    if not chosen.describe() and not order.everything:
        words = "tenant, domain, site, source" + (", ids" if hasattr(order, "ids") else "")
        raise Wrong(400, f'say which: {words}, or "all": true for everything')
    return chosen


def _read_span(text: str | None) -> float | None:
    if not text:
        return None
    try:
        span = parse_seconds(text)
    except ValueError as error:
        raise Wrong(400, f"for {text}: {error}") from None
    if span <= 0:
        raise Wrong(400, f"for {text}: must be more than nothing")
    return span
