"""What is read: the views, over HTTP. Each answer is what a command prints with ``--json``, or typed."""

import base64
import binascii
import bisect
import datetime as dt
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
import trio
from starlette.requests import Request
from starlette.responses import Response

from relay.errors import StartError, StoreError, StoreUnavailable
from relay.net.certificates import find_unready
from relay.store.durability import find_weaknesses
from relay.store.gateview import GateView
from relay.store.suspension import Suspensions
from workers.admin.http import answers
from workers.admin.http.access import SEES
from workers.admin.http.answers import WINDOWS, Json, Wrong
from workers.admin.metrics import CONTENT_TYPE
from workers.admin.office import Office, Read
from workers.views.backlog import Backlog, select
from workers.views.explain import explain
from workers.views.grid import read_grid
from workers.views.listing import list_deliveries
from workers.views.queues import count, describe
from workers.views.selection import make_selection
from workers.views.sites import read_sites
from workers.views.sources import read_sources
from workers.views.status import read_readiness, read_status
from workers.views.tenants import read_tenants

_STANDINGS = 500  # of all sources
_SITES = 100

Query = TypeVar("Query", bound=answers.Query)


def read_query(request: Request, shape: type[Query]) -> Query:
    """Return the parameters of a request. Raises Wrong."""
    names = [name for name, _ in request.query_params.multi_items()]
    if len(set(names)) != len(names):
        raise Wrong(400, "a parameter is given twice")
    try:
        return msgspec.convert(dict(request.query_params), shape, strict=False)
    except msgspec.ValidationError as error:
        raise Wrong(400, f"parameters: {error}") from None


class Reads:
    """The handlers. All of them raise Wrong, StoreUnavailable, StoreError."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._config = office.config
        self._store = office.store

    # -- probes -------------------------------------------------------------------------------

    async def healthz(self, _: Request) -> Response:
        """The process lives and answers."""
        return Json(answers.Health(ok=True))

    async def readyz(self, request: Request) -> Response:
        """Store durable, certificates valid, a source alive; why not, for who may see the rest."""
        why = await self._office.memo.get("ready", self._find_unready)
        told = answers.Readiness(not why, why) if request.scope[SEES] else answers.Health(not why)
        return Json(told, 503 if why else 200)

    async def _find_unready(self) -> list[str]:
        now = dt.datetime.now(dt.UTC)
        why = await trio.to_thread.run_sync(find_unready, self._config, now)
        try:
            self._office.pulse.check()
            weaknesses = await find_weaknesses(self._store.link)
            if self._config.store.durability == "require":
                why += [f"the store can lose acknowledged mail: {one}" for one in weaknesses]
            clock = await Suspensions(self._store.link).read_clock()
            alive = await GateView(self._store.link, clock).read_presence()
            if not any(f"source:{source.name}" in alive for source in self._config.source):
                why.append("no source is alive: start a worker")
        except (StoreUnavailable, StoreError, StartError) as error:
            why.append(str(error))
        return why

    async def metrics(self, _: Request) -> Response:
        """Figures for Prometheus."""
        if self._office.metrics is None:
            raise Wrong(404, "this service has no metrics")
        content = await self._office.memo.get("metrics", self._office.metrics)
        return Response(content, media_type=CONTENT_TYPE, headers={"Cache-Control": "no-store"})

    # -- the whole ----------------------------------------------------------------------------

    async def status(self, _: Request) -> Response:
        """The ledger, what waits, who serves."""

        async def read() -> dict[str, Any]:
            picture = await self._office.snapshot.read()
            state = await read_status(self._store, self._config, picture.backlog)
            now = dt.datetime.now(dt.UTC)
            return state | await trio.to_thread.run_sync(read_readiness, self._config, now)

        return Json(await self._office.memo.get("status", read))

    async def sources(self, _: Request) -> Response:
        """Addresses that mail leaves from."""

        async def read() -> dict[str, Any]:
            picture = await self._office.snapshot.read()
            return await read_sources(
                self._store, self._config, limit=_STANDINGS, backlog=picture.backlog
            )

        return Json(await self._office.memo.get("sources", read))

    async def sites(self, _: Request) -> Response:
        """Receivers."""

        async def read() -> dict[str, Any]:
            picture = await self._office.snapshot.read()
            return await read_sites(
                self._store, self._config, limit=_SITES, backlog=picture.backlog
            )

        return Json(await self._office.memo.get("sites", read))

    async def standing(self, _: Request) -> Response:
        """Sources and sites as a grid."""

        async def read() -> dict[str, Any]:
            picture = await self._office.snapshot.read()
            return await read_grid(self._store, self._config, picture.backlog)

        return Json(await self._office.memo.get("standing", read))

    async def tenants(self, _: Request) -> Response:
        """Who may send."""

        async def read() -> list[dict[str, Any]]:
            picture = await self._office.snapshot.read()
            return await read_tenants(self._store, self._config, picture.backlog)

        return Json(await self._office.memo.get("tenants", read))

    # -- queues -------------------------------------------------------------------------------

    async def queues(self, request: Request) -> Response:
        """What waits, the largest first."""
        query = read_query(request, answers.QueuesQuery)
        return Json(await self._office.memo.get(query, lambda: self._read_queues(query)))

    async def _read_queues(self, query: answers.QueuesQuery) -> dict[str, Any]:
        try:
            chosen = make_selection(query.tenant, query.domain, query.site)
        except ValueError as error:
            raise Wrong(400, str(error)) from None
        picture = await self._office.snapshot.read()
        found = select(picture.backlog, chosen)
        start = bisect.bisect_right(found, _read_place(query.after), key=_find_place)
        shown = found[start : start + query.limit]
        left = len(found) - start - len(shown)
        return {
            "queues": await describe(self._store, self._config, shown),
            "total": count(found),
            "not_shown": left,
            "complete": picture.complete,
            "at": picture.at,
            "next": _write_place(shown) if left else None,
        }

    async def queue(self, request: Request) -> Response:
        """The deliveries of one queue."""
        query = read_query(request, answers.PageQuery)
        tenant, domain = request.path_params["tenant"], request.path_params["domain"]
        if tenant not in [one.name for one in self._config.tenant]:
            raise Wrong(404, f"no [[tenant]] is called {tenant}")
        try:
            page = await list_deliveries(
                self._store,
                self._config,
                tenant,
                make_selection(domain=domain).domain,
                limit=query.limit,
                after=query.after,
            )
        except ValueError as error:
            raise Wrong(400, str(error)) from None
        return Json(page)

    # -- messages -----------------------------------------------------------------------------

    async def message(self, request: Request) -> Response:
        """A message's whole story."""
        message_id = request.path_params["id"].partition(".")[0].upper()
        try:
            story = await explain(self._store, self._config, message_id)
        except ValueError as error:
            raise Wrong(400, str(error)) from None
        if not story["events"]:
            raise Wrong(
                404,
                f"nothing is known of {message_id}: not accepted here, or ended longer ago than "
                "store.remember",
            )
        return Json(story)

    async def messages(self, request: Request) -> Response:
        """Messages that match all that is given."""
        query = read_query(request, answers.MessagesQuery)
        return Json(await _call(self._office.search, msgspec.structs.asdict(query)))

    # -- over time ----------------------------------------------------------------------------

    async def flow(self, request: Request) -> Response:
        """What went through, over time."""
        query = read_query(request, answers.FlowQuery)
        return Json(await _call(self._office.flow, {"window": WINDOWS[query.window]}))

    async def standing_history(self, request: Request) -> Response:
        """Score and pace of a source at a site, over time."""
        query = read_query(request, answers.StandingQuery)
        given = msgspec.structs.asdict(query) | {"window": WINDOWS[query.window]}
        return Json(await _call(self._office.standing_history, given))


async def _call(read: Read | None, given: dict[str, Any]) -> dict[str, Any]:
    if read is None:
        raise Wrong(404, "this service keeps nothing of the kind")
    try:
        return await read(**given)
    except ValueError as error:
        raise Wrong(400, str(error)) from None


# -- places in the list of queues -----------------------------------------------------------------

_Place = tuple[int, str, str]
_decode = msgspec.json.Decoder(_Place).decode


def _find_place(one: Backlog) -> _Place:
    """Return what the list is ordered by (views/backlog.py)."""
    return -one.total, one.tenant, one.domain


def _write_place(shown: Sequence[Backlog]) -> str | None:
    if not shown:
        return None
    octets = msgspec.json.encode(_find_place(shown[-1]))
    return base64.urlsafe_b64encode(octets).decode("ascii")


def _read_place(text: str) -> _Place:
    if not text:
        return (-(1 << 63), "", "")
    try:
        place: _Place = _decode(base64.urlsafe_b64decode(text.encode("ascii")))
        return place
    except (UnicodeError, binascii.Error, msgspec.MsgspecError):
        raise Wrong(400, "after: not a cursor; take it from `next` of the page before") from None
