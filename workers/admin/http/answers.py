"""Answers: what the HTTP interface says, typed where it is not what a command prints, and errors."""

from typing import Annotated, Literal

import msgspec
from starlette.responses import Response

Struct = msgspec.Struct
_NO_STORE = {"Cache-Control": "no-store"}


class Json(Response):
    """An answer as JSON, which nobody keeps."""

    media_type: str | None = "application/json"

    def __init__(self, content: object, status_code: int = 200) -> None:
        super().__init__(content, status_code, headers=_NO_STORE)

    def render(self, content: object) -> bytes:
        """Encode; what JSON has no word for (infinity) is null."""
        return msgspec.json.encode(content)


class Problem(Struct):
    """What happened, and what to do."""

    error: str


class Wrong(Exception):
    """A request that cannot be answered: its status, and a text for people."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def refuse(status: int, text: str) -> Json:
    """Return an error."""
    return Json(Problem(text), status)


# -- what is asked --------------------------------------------------------------------------------


class Query(Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters behind the question mark of a URL."""


Word = Annotated[str, msgspec.Meta(max_length=320)]
Cursor = Annotated[str, msgspec.Meta(max_length=1000, description="`next` of the page before")]
Page = Annotated[int, msgspec.Meta(ge=1, le=200)]
Window = Literal["15m", "1h", "6h", "1d", "7d"]
WINDOWS: dict[str, float] = {"15m": 900, "1h": 3600, "6h": 21600, "1d": 86400, "7d": 604800}


class QueuesQuery(Query, frozen=True):
    tenant: Word = ""
    domain: Word = ""
    site: Word = ""
    limit: Page = 100
    after: Cursor = ""


class PageQuery(Query, frozen=True):
    limit: Page = 100
    after: Cursor = ""


class FlowQuery(Query, frozen=True):
    window: Window = "15m"


class StandingQuery(Query, frozen=True):
    source: Word
    site: Word
    window: Window = "1h"


class MessagesQuery(Query, frozen=True):
    id: Word = ""
    message_id: Word = ""
    sender: Word = ""
    recipient: Word = ""
    domain: Word = ""
    tenant: Word = ""
    outcome: Literal["", "queued", "delivered", "bounced"] = ""
    start: Annotated[float | None, msgspec.Meta(description="seconds since 1970")] = msgspec.field(
        name="from", default=None
    )
    end: Annotated[float | None, msgspec.Meta(description="seconds since 1970")] = msgspec.field(
        name="to", default=None
    )
    limit: Page = 50
    after: Cursor = ""


class EventsQuery(Query, frozen=True):
    tenant: Word = ""
    event: Word = ""
    site: Word = ""
    domain: Word = ""
    id: Word = ""


# -- what is to be done ---------------------------------------------------------------------------

Note = Annotated[str, msgspec.Meta(max_length=500)]
Span = Annotated[str, msgspec.Meta(max_length=20, description="30m, 4h, 2d; null: until resumed")]
Ids = Annotated[tuple[Word, ...], msgspec.Meta(max_length=500)]


class Order(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an operator wants done: which (all that are given must match), who, and why."""

    tenant: Word = ""
    domain: Word = ""
    site: Word = ""
    source: Word = ""
    everything: bool = msgspec.field(name="all", default=False)
    why: Note = ""
    who: Annotated[str, msgspec.Meta(max_length=100)] = ""


class SuspendOrder(Order, frozen=True, kw_only=True):
    span: Span | None = msgspec.field(name="for", default=None)


class ResumeOrder(Order, frozen=True, kw_only=True):
    """With ``all`` and another one: every suspension that has it as a part."""


class DeliveriesOrder(Order, frozen=True, kw_only=True):
    """``ids``: of messages, or of single deliveries (ID.NUMBER)."""

    ids: Ids = ()
    dry_run: bool = False


class BounceOrder(DeliveriesOrder, frozen=True, kw_only=True):
    """``text``: what senders read; ``silent``: they are not told."""

    text: Note = ""
    silent: bool = False


class Login(Struct, frozen=True, forbid_unknown_fields=True):
    token: Annotated[str, msgspec.Meta(max_length=500)]


# -- what is answered -----------------------------------------------------------------------------


class Health(Struct):
    ok: bool


class Readiness(Struct):
    """Whether mail can be taken and sent; ``why`` not. Who shows no token where one is needed is told
    a Health instead."""

    ready: bool
    why: list[str]


class QueueRow(Struct):
    """What waits for one domain of one tenant. Times are seconds from now."""

    tenant: str
    domain: str
    site: str
    pools: list[str]
    priorities: list[str]
    pinned: list[str]
    ready: int
    due: int
    claimed: int
    next_due: float | None
    oldest: float | None
    why: str
    text: str
    opens: float | None


class Totals(Struct):
    queues: int
    ready: int
    due: int
    claimed: int


class Queues(Struct):
    """Queues, the largest first. ``at``: when they were counted, seconds since 1970."""

    queues: list[QueueRow]
    total: Totals
    not_shown: int
    complete: bool
    at: float
    next: str | None


class DeliveryRow(Struct):
    """One delivery. ``until``: due when, or claimed until; times are seconds since 1970."""

    id: str
    message: str
    state: Literal["ready", "due", "claimed"]
    accepted: float
    attempts: int
    until: float | None
    size: int
    sender: str
    recipients: list[str]
    recipient_count: int


class Deliveries(Struct):
    deliveries: list[DeliveryRow]
    next: str | None


class CellWarmup(Struct):
    """Where a source is in its warm-up; ``next``: when the next day begins, seconds since 1970."""

    day: int
    days: int
    allowance: int
    used: int
    next: float


class Cell(Struct):
    """A source at a site. ``pace``: deliveries/s, null: not paced."""

    source: str
    site: str
    score: float
    known: bool
    pace: float | None
    connections: int
    connection_limit: int | None
    state: Literal[
        "ok", "slowed", "silent", "quarantined", "probing", "warming", "suspended", "resting"
    ]
    text: str
    warmup: CellWarmup | None


class Grid(Struct):
    now: float
    sources: list[str]
    sites: list[str]
    queued: dict[str, int]
    cells: list[Cell]
    not_shown: int


class Shares(Struct):
    """What receivers hold against a tenant: parts of the recipients that were tried."""

    tried: int
    unknown: float | None
    content: float | None
    complaints: float | None


class TenantRow(Struct):
    name: str
    domains: list[str]
    state: Literal["", "slow", "hold"]
    reason: str
    since: float | None
    shares: Shares
    suspended: str
    queued: int


Series = list[float | None]


class Tls(Struct):
    """Sessions by what protected them: from senders by version, to hosts by what was proven."""

    inwards: dict[str, int] = msgspec.field(name="in")
    outwards: dict[str, int] = msgspec.field(name="out")


class Flow(Struct):
    """What went through, per second; null where nothing is known."""

    step: float
    start: float
    series: dict[str, Series]
    queued: Series
    tls: Tls


class StandingHistory(Struct):
    step: float
    start: float
    score: Series
    pace: Series
    queued: Series


class MessageRow(Struct):
    """A message; null is what the index has not heard, or what the message has not."""

    id: str
    time: float
    tenant: str
    sender: str | None
    recipients: int
    domains: list[str]
    message_id: str | None
    size: int | None
    outcome: str


class Gap(Struct):
    """When the index has not heard all: from, to, and how many events, where that is known."""

    start: float = msgspec.field(name="from")
    end: float = msgspec.field(name="to")
    missed: int | None


class Messages(Struct):
    """Messages, the latest first. ``since``: what was accepted before is not in the index."""

    messages: list[MessageRow]
    since: float | None
    gaps: list[Gap]
    next: str | None
