"""The mailbox domains of ours (``feedback.domains``): reports come in here, and go nowhere.

Anybody may send to them, from any network, without proof: receivers' complaints come from whom they
like, bounces with the null sender. That is no relaying, and must not become any: such a transaction has
no other recipients, belongs to no tenant, and its message is read, counted and dropped. It is not
archived either: it is no tenant's mail.

Where a report is: with its sender, until the script of ``relay/store/feedback.py`` ran. If we die
before it, the sender tries again; between it and the ``250``, or when its reply is lost, the sender
tries again and the report has been counted. A bounce of several recipients is counted one by one: those
before the end are not counted again, the others are. The line in the event log is written last, and may
be missing; the one in the message's story is there.
"""

import ipaddress
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import trio

from relay.config.schema import Config, Source
from relay.errors import StoreError, StoreUnavailable
from relay.events import EventLog, decode_event, encode_event
from relay.feedback import (
    Abuse,
    Bounce,
    Origin,
    find_message_id,
    find_origin,
    read_report,
)
from relay.feedback.arf import COMPLAINTS
from relay.ingress.acceptance import Peer, explain_failure, show
from relay.ingress.draft import Draft, Trouble
from relay.store.feedback import Complaint, Feedback, LateBounce
from relay.store.queue import Store

_LARGE = 64 * 1024  # what is read elsewhere than on the loop, octets
_THREADS = 2

_ALONE: Trouble = (452, "4.5.3", "Reports and other mail not in one transaction; send this again")
_NOTHING = "no message of ours stands in it"
_UNKNOWN = "its message is not known, or not any more"
_BEFORE = "it has been counted before"
_NO_REPORT = "not a report that is understood"


@dataclass(frozen=True, slots=True)
class _Finding:
    """One thing that a report says."""

    kind: str  # "complaint" or "bounce"
    type: str  # which: "abuse"; what happened: "failed", "delayed"
    names: Sequence[str]  # what it calls the recipient
    serious: bool  # something is to be done about it
    status: str = ""
    text: str = ""


class Mailbox:
    """Takes what is sent to the domains, if there are any."""

    def __init__(self, config: Config, store: Store, events: EventLog) -> None:
        self._domains = frozenset(config.feedback.domains)
        self._most = config.feedback.max_message
        self._hostname = config.ingress.hostname
        self._sources = _index_sources(config.source)
        self._store = store
        self._events = events
        self._feedback = Feedback(store.link, config)
        self._threads = trio.CapacityLimiter(_THREADS)

    @property
    def is_open(self) -> bool:
        """Whether there are such domains: whoever may send nothing else may send there."""
        return bool(self._domains)

    def owns(self, domain: str) -> bool:
        """Tell whether mail to a domain (lower case, A-labels) is for us."""
        return domain in self._domains

    def find_obstacle(self, draft: Draft) -> Trouble | None:
        """Return why a transaction cannot have a recipient of ours."""
        if draft.recipients and not draft.is_report:
            return _ALONE
        return self.exceeds(draft.mail.size)

    def keep_out(self, draft: Draft) -> Trouble | None:
        """Return why a transaction cannot have a recipient that is not of ours."""
        if draft.refusal is not None:
            # 550 also where there is a report already: "send it again" would be an invitation.
            code, status = (451, "4.7.1") if draft.refusal.temporary else (550, "5.7.1")
            return code, status, draft.refusal.text
        return _ALONE if draft.is_report else None

    def exceeds(self, octets: int) -> Trouble | None:
        """Return the reply to a report of so many octets, if that is too much."""
        if octets <= self._most:
            return None
        return 552, "5.3.4", f"Report too big: at most {self._most} octets"

    async def take(self, draft: Draft, peer: Peer) -> Trouble | None:
        """Count what a message reports; return the reply that says why that could not be done.

        What is no report is taken as well: whoever sent it would only send it again.
        """
        octets = draft.body[len(draft.trace) :]
        if len(octets) > _LARGE:
            report = await trio.to_thread.run_sync(read_report, octets, limiter=self._threads)
        else:
            report = read_report(octets)
        event = _begin_event(draft, peer)
        try:
            await self._weigh(report, event)
        except (StoreUnavailable, StoreError) as error:
            return explain_failure(error)
        return None

    async def _weigh(self, report: Abuse | Bounce | None, event: Mapping[str, object]) -> None:
        if report is None:
            self._tell(event, kind="other", text=_NO_REPORT)
            return
        message_id = find_message_id(report.original, self._hostname)
        story = await self._read_story(message_id)
        event = {**event, **self._describe(report)}
        names: set[str] = set()
        for finding in _list_findings(report):
            event = {**event, "kind": finding.kind, "type": finding.type}
            origin = find_origin(story, finding.names, str(event["source"]))
            if origin is None:
                self._tell(event, text=_UNKNOWN if message_id else _NOTHING)
                return  # one line for all that a stranger says of nothing
            name = f"{finding.kind} {finding.type} {origin.recipient.lower()}"
            if name not in names:  # a hundred people who are none of the message's are one
                names.add(name)
                await self._count(_complete(event, message_id, origin, finding), finding, name)

    def _describe(self, report: Abuse | Bounce) -> dict[str, object]:
        """Return what an event says of a report. ``source``: of ours, if it says so itself."""
        if isinstance(report, Bounce):
            return {"reporter": report.reporter, "source": ""}
        source = self._sources.get(report.source_ip, "")
        return {"reporter": report.user_agent, "source": source}

    async def _read_story(self, message_id: str) -> list[dict[str, Any]]:
        if not message_id:
            return []
        return [decode_event(line) for line in await self._store.read_story(message_id)]

    async def _count(self, event: dict[str, object], finding: _Finding, name: str) -> None:
        """Count one finding as ``name``, and write down whether that was done."""
        signal = _make_signal(event, finding) if finding.serious else None
        encoded = encode_event(event)
        done = await self._feedback.count(str(event["id"]), name, encoded, signal)
        if done:
            self._events.write(encoded)
        else:
            self._tell(event, text=_UNKNOWN if done is None else _BEFORE)

    def _tell(self, event: Mapping[str, object], **more: object) -> None:
        """Write down what came and was not counted."""
        self._events.write(encode_event({**event, **more, "counted": False}))


def _begin_event(draft: Draft, peer: Peer) -> dict[str, object]:
    return {
        "time": time.time(),
        "event": "feedback",
        "client": peer.client,
        "hello": show(peer.hello),
        "sender": show(draft.mail.sender),
        "size": draft.received,
    }


def _complete(
    event: Mapping[str, object], message_id: str, origin: Origin, finding: _Finding
) -> dict[str, object]:
    """Return the event with what we know ourselves of the message."""
    said = {"status": finding.status, "text": finding.text}
    return {
        **event,
        "id": message_id,
        "tenant": origin.tenant,
        "source": origin.source or event["source"],
        "site": origin.site,
        "domain": origin.domain,
        "recipient": origin.recipient,
        **{name: value for name, value in said.items() if value},
        "counted": True,
    }


def _list_findings(report: Abuse | Bounce) -> Iterator[_Finding]:
    if isinstance(report, Abuse):
        serious = report.kind in COMPLAINTS
        yield _Finding("complaint", report.kind, report.recipients, serious)
        return
    for failure in report.failures:
        # Some say what happened by the status alone.
        failed = failure.action == "failed" or (not failure.action and failure.status[:1] == "5")
        action = "failed" if failed else failure.action
        yield _Finding("bounce", action, failure.recipients, failed, failure.status, failure.text)
    if not report.failures:
        yield _Finding("bounce", "", (), serious=False)


def _make_signal(event: Mapping[str, object], finding: _Finding) -> Complaint | LateBounce:
    where = {name: str(event[name]) for name in ("tenant", "source", "site", "recipient")}
    where["message_id"] = str(event["id"])
    if finding.kind == "complaint":
        return Complaint(**where, kind=finding.type)
    return LateBounce(**where, status=finding.status, text=finding.text)


def _index_sources(sources: Sequence[Source]) -> dict[str, str]:
    """Return the names of sources by their addresses, in the shortest form."""
    found: dict[str, str] = {}
    for source in sources:
        address = ipaddress.ip_address(source.address)
        if not address.is_unspecified:
            found.setdefault(str(address), source.name)
    return found
