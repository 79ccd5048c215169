"""Tables of what becomes of mail: who demands what of TLS, and what a receiver is like → the end.

    TABLE = '''
    demand | published | host    | outcome       | by            | counted         | text
    verify | no TLS    | expired | deferred      | site          | no-policy-found | certificate expired
    '''

A line is a row, and a domain with one host. *demand*: what a [[site]] says of TLS, or what the
domain's records demand, or what the message asks (required, optional). *published*: what stands in its zone and on its web server. *host*: its
certificate, or what it does; "+ REQUIRETLS" if it offers that. *outcome*, *by* (who demanded), *counted* (what a TLS report would say,
RFC 8460 §4.3, "-" for nothing) and *text* (a part of the reason) are what must come out.

A clock in real time (``MockClock(rate=1)``) is asked for: it jumps where a host stalls.
"""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.kit.authority import Authority
from tests.kit.domains import FIRST, Domains, Ended, post, read_counted, wait_for_end
from tests.kit.https import HttpsServer
from tests.kit.peer import OFFERS, ScriptedHost
from tests.kit.redis import Server
from tests.kit.works import Works

_SCRIPTS = {
    "STARTTLS refused": "STARTTLS 454 4.7.0 not now",
    "handshake refused": "HANDSHAKE eof",
    "handshake slow": "HANDSHAKE wait",
    "handshake stalls": "HANDSHAKE silence",
}
_ASKED = ("required", "optional")
_SITE_LEVELS = ("none", "require", "verify")


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    demand: str
    published: str
    host: str
    outcome: str
    by: str
    counted: frozenset[str]
    text: str

    @property
    def kind(self) -> str:
        """Of the host's certificate."""
        return self.host.partition(" + ")[0]

    def __str__(self) -> str:
        return f"{self.demand}, {self.published}, {self.host}"

    @property
    def domain(self) -> str:
        words = f"{self.host} {self.published} {self.demand}".lower()
        return "-".join("".join(c if c.isalnum() else " " for c in words).split()) + ".test"


def read_table(table: str) -> list[Row]:
    """Return the rows; the first line names the columns. Empty lines are for the eye."""
    rows = []
    for line in filter(str.strip, table.strip().splitlines()[1:]):
        *first, counted, text = map(str.strip, line.split("|"))
        kinds = frozenset() if counted == "-" else frozenset(counted.split(" + "))
        rows.append(Row(*first, kinds, text))
    assert len({row.domain for row in rows}) == len(rows), "two rows are the same"
    return rows


async def play(
    row: Row,
    domains: Domains,
    server: Server,
    base: Path,
    clock: MockClock,
    *,
    by: Authority | None = None,
    web: HttpsServer | None = None,
) -> ScriptedHost:
    """Send a message to a row's domain, and hold what comes of it against the row.

    Returns the host, with what it has seen.

    ``by``: who issues the certificate of the host, unless its kind says so.
    """
    levels = {row.domain: row.demand} if row.demand in _SITE_LEVELS else {}
    script = _SCRIPTS.get(row.kind, "")
    offers = (*OFFERS, "REQUIRETLS") if row.kind != row.host else OFFERS
    async with AsyncExitStack() as stack:
        opening = domains.open_host(
            row.kind, f"mx.{row.domain}", by=by, script=script, offers=offers
        )
        host = await stack.enter_async_context(opening)
        works = await stack.enter_async_context(
            domains.open_works(server, base, web, levels=levels)
        )
        ended = await _attempt(row, host, works, clock)
        await wait_all_tasks_blocked(0.05)  # the event is written before the session is counted
        counted = await read_counted(works, row.domain)
    found = (ended.outcome, ended.policy, counted)
    assert found == (row.outcome, row.by, row.counted), f"{found}: {ended.text}"
    assert row.text in ended.text, ended.text
    assert row.text or not ended.text, ended.text
    if row.outcome == "bounced":
        assert ended.status == "5.7.30"  # RFC 8689 §4.2.1
    if row.outcome == "deferred" and row.by:
        assert ended.text.startswith(f"{ended.event['host']} ({FIRST}): "), ended.text
        assert ended.event["address"] == f"{FIRST}:{domains.port}"
        assert "so mail waits until its owner has mended that" in ended.text
        assert ended.status == "4.7.5"
    _check_host(row, host)
    return host


async def _attempt(row: Row, host: ScriptedHost, works: Works, clock: MockClock) -> Ended:
    delivery = await post(works, row.domain, asked=row.demand if row.demand in _ASKED else "")
    if row.host in ("handshake slow", "handshake stalls"):
        await host.wait_until(lambda: host.counts["HANDSHAKE"])
        await wait_all_tasks_blocked(0.02)
        clock.jump(30)
        await trio.sleep(0.05)
        host.gate.set()
        if row.host == "handshake stalls":  # RFC 5321 knows no time for it; we wait a minute
            assert host.open == 1
            clock.jump(31)
    return await wait_for_end(works, delivery)


def _check_host(row: Row, host: ScriptedHost) -> None:
    """The host must have seen what we say."""
    protections = [message.tls for message in host.messages]
    match row.outcome.split()[0]:
        case "verified" | "unverified":
            assert protections == ["TLSv1.3"]
        case "clear":
            assert protections == [""]
        case _:
            # Not a word about the message.
            assert not any(line.startswith(("MAIL", "RCPT", "DATA")) for line in host.commands)
