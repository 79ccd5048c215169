"""The routes: each path once, with what it takes and answers; the application and its description."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from workers.admin.http import answers
from workers.admin.http.acts import Acts
from workers.admin.http.events import EventStream
from workers.admin.http.reads import Reads

Handler = Callable[[Request], Awaitable[Response]]
Plain = dict[str, Any]  # what a command prints
_API = "/api/v1"


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path. ``answer``: JSON of that shape, or a media type."""

    method: str
    path: str
    handler: Handler
    summary: str
    answer: Any
    query: type[answers.Query] | None = None
    body: type[answers.Struct] | None = None
    known: tuple[int, ...] = ()  # errors beside those that any request may meet
    is_open: bool = False  # without a token
    waits: bool = False  # it takes its time, or has a deadline of its own


def list_routes(reads: Reads, acts: Acts, stream: EventStream) -> list[Route]:
    """Return all of them but the page and the description."""
    return [*_list_probes(reads), *_list_reads(reads, stream), *_list_acts(acts)]


def _list_probes(reads: Reads) -> list[Route]:
    return [
        Route("GET", "/healthz", reads.healthz, "The process lives", answers.Health, is_open=True),
        Route(
            "GET", "/readyz", reads.readyz,
            "Store durable, certificates valid, a source alive", answers.Readiness, is_open=True,
        ),
        Route("GET", "/metrics", reads.metrics, "Figures for Prometheus", "text/plain", waits=True),
    ]  # fmt: skip


def _list_reads(reads: Reads, stream: EventStream) -> list[Route]:
    return [
        Route("GET", f"{_API}/status", reads.status, "`outgate status --json`", Plain),
        Route(
            "GET", f"{_API}/queues", reads.queues, "What waits, and why, the largest first",
            answers.Queues, query=answers.QueuesQuery,
        ),
        Route(
            "GET", f"{_API}/queues/{{tenant}}/{{domain}}", reads.queue,
            "The deliveries of a queue, a page at a time",
            answers.Deliveries, query=answers.PageQuery, known=(404,),
        ),
        Route("GET", f"{_API}/sources", reads.sources, "`outgate sources --json`", Plain),
        Route("GET", f"{_API}/sites", reads.sites, "`outgate sites --json`", Plain),
        Route(
            "GET", f"{_API}/standing", reads.standing, "Sources and sites as a grid", answers.Grid
        ),
        Route(
            "GET", f"{_API}/tenants", reads.tenants, "Tenants, and what is held against them",
            list[answers.TenantRow],
        ),
        Route(
            "GET", f"{_API}/flow", reads.flow, "What went through, over time",
            answers.Flow, query=answers.FlowQuery, known=(404,),
        ),
        Route(
            "GET", f"{_API}/history/standing", reads.standing_history,
            "Score and pace of a source at a site, over time",
            answers.StandingHistory, query=answers.StandingQuery, known=(404,),
        ),
        Route(
            "GET", f"{_API}/messages", reads.messages, "Messages that match all that is given",
            answers.Messages, query=answers.MessagesQuery, known=(404,),
        ),
        Route(
            "GET", f"{_API}/messages/{{id}}", reads.message, "`outgate explain ID --json`",
            Plain, known=(404,),
        ),
        Route(
            "GET", f"{_API}/events", stream.events, "Events as they happen; `missed`: some were lost",
            "text/event-stream", query=answers.EventsQuery, waits=True,
        ),
    ]  # fmt: skip


def _list_acts(acts: Acts) -> list[Route]:
    suspend, resume = answers.SuspendOrder, answers.ResumeOrder
    some = answers.DeliveriesOrder
    return [
        Route("POST", f"{_API}/suspend", acts.suspend, "Send nothing", Plain, body=suspend, waits=True),
        Route("POST", f"{_API}/resume", acts.resume, "Go on", Plain, body=resume, waits=True),
        Route("POST", f"{_API}/retry", acts.retry, "Try now", Plain, body=some, waits=True),
        Route("POST", f"{_API}/hold", acts.hold, "Let it wait", Plain, body=some, waits=True),
        Route(
            "POST", f"{_API}/bounce", acts.bounce, "End it, and tell senders",
            Plain, body=answers.BounceOrder, waits=True,
        ),
        Route(
            "POST", "/login", acts.login, "Take a token, and set it as a cookie",
            answers.Health, body=answers.Login, is_open=True,
        ),
        Route("POST", "/logout", acts.logout, "Forget the cookie", answers.Health, is_open=True),
    ]  # fmt: skip
