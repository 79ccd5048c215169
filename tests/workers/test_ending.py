"""Ends of claims: the ledger, the notice, the retry, for every mixture of outcomes."""

import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from relay.config import Config
from relay.model import Blame, Claim, Disposition, Outcome, Recipient
from tests.kit.messages import Claims
from tests.kit.redis import Server
from tests.kit.works import Works, make_config, open_works
from workers.attempt import Attempt
from workers.ending import Ending
from workers.notice import Kind
from workers.postmaster import Postmaster
from workers.tls.proof import Proof

ATTEMPT = Attempt("a", "mx.y.test", "192.0.2.1:25", proof=Proof("TLSv1.3 X", "pkix", "0f" * 32))
OK = Outcome(Disposition.DELIVERED, None, ".", 250, "2.0.0", "taken")
LATER = Outcome(Disposition.DEFERRED, None, "RCPT", 450, "4.2.0", "greylisted")
NEVER = Outcome(Disposition.BOUNCED, None, "RCPT", 550, "5.1.1", "no such user")
LOST = Outcome(Disposition.DEFERRED, None, ".", 0, "4.4.2", "the host closed the connection")
OUTCOMES = {"ok": OK, "later": LATER, "never": NEVER}


class Desk:
    """An ending, and claims for it."""

    def __init__(self, works: Works) -> None:
        self.works = works
        self.store = works.store
        self.ending = Ending(works.config, works.store, works.events)
        self._claims = Claims(works.store)
        self._taken: list[Claim] = []

    async def take(self, *recipients: bytes | Recipient, **more: Any) -> Claim:
        await self.works.post(*recipients, **more)
        (claim,) = await self._take("y.test")
        return claim

    async def _take(self, domain: str) -> list[Claim]:
        """Claims may bring another domain's deliveries as well: those are kept for later."""
        self._taken += await self._claims.take(domain)
        wanted = [claim for claim in self._taken if claim.delivery.domain == domain]
        self._taken = [claim for claim in self._taken if claim.delivery.domain != domain]
        return wanted

    async def end(
        self, claim: Claim, outcomes: Sequence[Outcome], attempt: Attempt = ATTEMPT, **how: Any
    ) -> None:
        await self.ending.end(claim, outcomes, attempt, **how)

    async def take_again(self) -> Claim:
        await self.works.hurry("y.test")
        (claim,) = await self._take("y.test")
        return claim

    async def take_notices(self) -> list[Claim]:
        return await self._take("acme.example")

    async def books(self, name: str = "ledger") -> tuple[int, ...]:
        """Return delivered, bounced, queued."""
        book = (await self.store.read_ledger())[name]
        return book["delivered"], book["bounced"], book["queued"]


@asynccontextmanager
async def open_desk(server: Server, base: Path, **settings: Any) -> AsyncIterator[Desk]:
    async with open_works(server, base, running=False, **settings) as works:
        yield Desk(works)
        works.check()


@pytest.fixture
async def desk(server: Server, tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(server, tmp_path) as desk:
        yield desk


PEOPLE = (b"r0@y.test", b"r1@y.test", b"r2@y.test")


@pytest.mark.parametrize(
    ("names", "books", "left"),
    [
        (("ok", "ok", "ok"), (3, 0, 0), []),
        (("never", "never", "never"), (0, 3, 0), []),
        (("later", "later", "later"), (0, 0, 3), [0, 1, 2]),
        (("ok", "never", "ok"), (2, 1, 0), []),
        (("ok", "later", "never"), (1, 1, 1), [1]),
        (("later", "ok", "later"), (1, 0, 2), [0, 2]),
        (("never", "later", "never"), (0, 2, 1), [1]),
    ],
)
async def test_every_recipient_is_in_one_column_of_the_ledger(
    desk: Desk, names: tuple[str, ...], books: tuple[int, ...], left: list[int]
) -> None:
    claim = await desk.take(*PEOPLE)
    await desk.end(claim, [OUTCOMES[name] for name in names])

    assert await desk.books() == books
    if left:
        again = await desk.take_again()
        open_ = [recipient.address for recipient in again.delivery.envelope.recipients]
        assert open_ == [PEOPLE[place] for place in left]
        assert again.attempts == 1
        assert json.loads(again.previous)["source"] == "a"
    # One notice about all that failed in this attempt, or none.
    notices = await desk.take_notices()
    assert len(notices) == ("never" in names)
    for notice in notices:
        assert notice.body is not None
        said = [notice.body.count(address) > 0 for address in PEOPLE]
        assert said == [name == "never" for name in names]


async def test_a_notice_goes_to_the_sender_from_nobody(desk: Desk) -> None:
    claim = await desk.take()
    await desk.end(claim, [NEVER])

    (notice,) = await desk.take_notices()
    assert notice.delivery.envelope.sender == b""
    assert notice.delivery.envelope.recipients == (Recipient(b"alice@acme.example"),)
    assert notice.delivery.notice
    assert notice.body is not None
    assert b"Diagnostic-Code: smtp; 550 5.1.1 no such user" in notice.body
    assert b"Remote-MTA: dns; mx.y.test" in notice.body
    assert await desk.books("notices") == (0, 0, 1)


@pytest.mark.parametrize(
    "more",
    [
        {"sender": b""},
        {"sender": b"postmaster@[192.0.2.1"},  # nowhere that a notice could go
    ],
)
async def test_nobody_is_told_when_there_is_nobody(desk: Desk, more: dict[str, Any]) -> None:
    claim = await desk.take(**more)
    await desk.end(claim, [NEVER])
    assert await desk.books() == (0, 1, 0)
    assert await desk.books("notices") == (0, 0, 0)


async def test_notify_never_is_respected(desk: Desk) -> None:
    claim = await desk.take(Recipient(b"r0@y.test", b"NEVER"), b"r1@y.test")
    await desk.end(claim, [NEVER, NEVER])
    (notice,) = await desk.take_notices()
    assert notice.body is not None
    assert b"r0@y.test" not in notice.body


async def test_no_notice_when_all_said_never(desk: Desk) -> None:
    claim = await desk.take(Recipient(b"r0@y.test", b"NEVER"))
    await desk.end(claim, [NEVER])
    assert await desk.take_notices() == []


async def test_no_notice_about_a_notice(desk: Desk) -> None:
    await desk.end(await desk.take(), [NEVER])
    (notice,) = await desk.take_notices()
    await desk.end(notice, [NEVER])
    assert await desk.books("notices") == (0, 1, 0)
    assert await desk.take_notices() == []


async def test_a_crash_between_notice_and_bounce_makes_no_second_notice(desk: Desk) -> None:
    claim = await desk.take(*PEOPLE)
    pairs = [(recipient, NEVER) for recipient in claim.delivery.envelope.recipients]
    postmaster = Postmaster(desk.works.config, desk.store, desk.works.events)
    await postmaster.tell(Kind.FAILED, claim, pairs, remote="mx.y.test", now=time.time())
    # Here we die; somebody else gets the same answers.
    await desk.end(claim, [NEVER] * 3)
    assert len(await desk.take_notices()) == 1
    assert await desk.books("notices") == (0, 0, 1)


async def test_an_expired_message_quotes_what_each_recipient_got_last(desk: Desk) -> None:
    claim = await desk.take(*PEOPLE[:2])
    full = Outcome(Disposition.DEFERRED, None, "RCPT", 452, "4.2.2", "mailbox full")
    await desk.end(claim, [LATER, full])
    await desk.ending.end_expired(grow_old(await desk.take_again()))

    assert await desk.books() == (0, 2, 0)
    (notice,) = await desk.take_notices()
    assert notice.body is not None
    _, first, second = notice.body.split(b"Final-Recipient:")
    assert b"Diagnostic-Code: smtp; 450 4.2.0 greylisted" in first
    assert b"Diagnostic-Code: smtp; 452 4.2.2 mailbox full" in second
    assert notice.body.count(b"Status: 4.4.7") == 2
    assert b"Remote-MTA: dns; mx.y.test" in first


def grow_old(claim: Claim) -> Claim:
    delivery = msgspec.structs.replace(claim.delivery, accepted=time.time() - 6 * 86400)
    return msgspec.structs.replace(claim, delivery=delivery)


@pytest.mark.parametrize("previous", [b"", b"no json", b'{"recipients": 7}', b"[]", b'{"host": 1}'])
async def test_an_expired_message_that_was_never_tried_is_returned_too(
    desk: Desk, previous: bytes
) -> None:
    claim = await desk.take()
    claim = msgspec.structs.replace(claim, previous=previous)
    await desk.ending.end_expired(grow_old(claim))
    (notice,) = await desk.take_notices()
    assert notice.body is not None
    assert b"it could not be tried in time" in notice.body


async def test_time_is_up_in_the_middle_of_an_attempt(server: Server, tmp_path: Path) -> None:
    async with open_desk(server, tmp_path, expire="1h") as desk:
        claim = await desk.take(*PEOPLE[:2], accepted=time.time() - 3601)
        await desk.end(claim, [OK, LATER])
        assert await desk.books() == (1, 1, 0)
        (notice,) = await desk.take_notices()
        assert notice.body is not None
        assert b"450 4.2.0 greylisted" in notice.body


async def test_no_wait_goes_past_the_end_of_a_message_s_time(
    server: Server, tmp_path: Path
) -> None:
    async with open_desk(server, tmp_path, expire="1h", retry=["30m"]) as desk:
        claim = await desk.take(accepted=time.time() - 3000)
        await desk.end(claim, [LATER])
        (event,) = desk.works.read_events("deferred")
        assert 590 < event["wait"] <= 600


@pytest.mark.parametrize(
    ("policy", "books", "wait"),
    [
        ("retry", (0, 0, 1), (0, 2)),
        ("hold", (0, 0, 1), (4 * 86400, 5 * 86400)),
        ("assume-delivered", (1, 0, 0), None),
    ],
)
async def test_what_becomes_of_an_unknown_outcome(
    server: Server,
    tmp_path: Path,
    policy: str,
    books: tuple[int, ...],
    wait: tuple[float, float] | None,
) -> None:
    async with open_desk(server, tmp_path, unknown_outcome=policy) as desk:
        claim = await desk.take()
        await desk.end(claim, [LOST], unknown=True)
        assert await desk.books() == books
        assert (await desk.store.read_ledger())["ledger"]["unknown"] == 1
        events = desk.works.read_events("deferred")
        if wait is None:
            assert events == []
        else:
            assert wait[0] < events[0]["wait"] <= wait[1]
            assert events[0].get("hold", False) is (policy == "hold")


@pytest.mark.parametrize(
    ("policy", "books"), [("retry", (0, 1, 2)), ("assume-delivered", (1, 1, 1))]
)
async def test_only_recipients_that_the_dot_was_about_are_unknown(
    server: Server, tmp_path: Path, policy: str, books: tuple[int, ...]
) -> None:
    async with open_desk(server, tmp_path, unknown_outcome=policy) as desk:
        claim = await desk.take(*PEOPLE)
        await desk.end(claim, [NEVER, LATER, LOST], unknown=True)
        assert await desk.books() == books
        assert (await desk.store.read_ledger())["ledger"]["unknown"] == 1


async def test_the_tenant_s_pool_of_today_takes_the_retry(server: Server, tmp_path: Path) -> None:
    tables = {"pool": {"default": {"a": 1}, "new": {"a": 1}}}
    config = make_config(tmp_path, tables=tables)
    config = _with_tenant_pool(config, "new")
    async with open_desk(server, tmp_path, config=config) as desk:
        claim = await desk.take()
        await desk.end(claim, [LATER])
        await desk.works.hurry("y.test")
        assert await desk._claims.take("y.test") == []
        (again,) = await desk._claims.take("y.test", pool="new")
    assert again.delivery.pool == "new"


def _with_tenant_pool(config: Config, pool: str) -> Config:
    tenants = tuple(msgspec.structs.replace(tenant, pool=pool) for tenant in config.tenant)
    return msgspec.structs.replace(config, tenant=tenants)


async def test_giving_back_is_no_attempt(desk: Desk) -> None:
    claim = await desk.take()
    await desk.ending.give_back(claim)
    again = await desk.take_again()
    assert again.attempts == 0
    assert await desk.books() == (0, 0, 1)


async def test_a_claim_that_has_passed_on_is_not_reported(desk: Desk) -> None:
    claim = await desk.take()
    await desk.ending.give_back(claim)
    await desk.end(claim, [OK])
    assert desk.works.read_events("delivered") == []
    assert await desk.books() == (0, 0, 1)


# -- when it is tried again


def _put_off(*texts: str) -> list[Outcome]:
    return [Outcome(Disposition.DEFERRED, None, "RCPT", 450, "4.2.0", text) for text in texts]


async def test_the_longest_delay_that_was_named_is_waited_for(desk: Desk) -> None:
    claim = await desk.take(*PEOPLE)
    await desk.end(claim, _put_off("wait 60 seconds", "try again in 5 minutes", "later"))
    (event,) = desk.works.read_events("deferred")
    assert 300 <= event["wait"] <= 330


async def test_only_those_who_are_tried_again_name_a_delay(desk: Desk) -> None:
    claim = await desk.take(*PEOPLE[:2])
    never = Outcome(Disposition.BOUNCED, None, "RCPT", 550, "5.1.1", "try again in 5 minutes")
    await desk.end(claim, [never, LATER])
    (event,) = desk.works.read_events("deferred")
    assert event["wait"] < 2


async def test_a_site_has_waits_of_its_own(desk: Desk) -> None:
    claim = await desk.take()
    await desk.end(claim, [LATER], retry=(50.0, 70.0))
    await desk.end(await desk.take_again(), [LATER], retry=(50.0, 70.0))
    first, second = desk.works.read_events("deferred")
    assert 45 <= first["wait"] <= 55
    assert 63 <= second["wait"] <= 77


# -- notices of success and of delay


def _read_actions(notices: Sequence[Claim]) -> list[str]:
    bodies = [notice.body or b"" for notice in notices]
    return sorted(body.partition(b"Action: ")[2].partition(b"\r\n")[0].decode() for body in bodies)


@pytest.mark.parametrize(
    ("notify", "dsn", "told"),
    [
        (b"SUCCESS", False, True),
        (b"FAILURE,SUCCESS", False, True),
        (b"SUCCESS", True, False),  # the host does it
        (b"", False, False),
        (b"FAILURE,DELAY", False, False),
        (b"NEVER", False, False),
    ],
)
async def test_who_asked_hears_that_it_was_taken(
    desk: Desk, notify: bytes, dsn: bool, told: bool
) -> None:
    claim = await desk.take(Recipient(b"r0@y.test", notify))
    await desk.end(claim, [OK], Attempt("a", "mx.y.test", "192.0.2.1:25", dsn=dsn))

    assert await desk.books() == (1, 0, 0)
    assert _read_actions(await desk.take_notices()) == ["relayed"] * told


async def test_what_is_only_assumed_is_not_told(server: Server, tmp_path: Path) -> None:
    async with open_desk(server, tmp_path, unknown_outcome="assume-delivered") as desk:
        claim = await desk.take(Recipient(b"r0@y.test", b"SUCCESS"))
        await desk.end(claim, [LOST], unknown=True)
        assert await desk.books() == (1, 0, 0)
        assert await desk.take_notices() == []


async def test_failure_and_success_are_told_apart(desk: Desk) -> None:
    notify = b"SUCCESS,FAILURE"
    claim = await desk.take(Recipient(b"r0@y.test", notify), Recipient(b"r1@y.test", notify))
    await desk.end(claim, [OK, NEVER])

    notices = await desk.take_notices()
    assert _read_actions(notices) == ["failed", "relayed"]
    assert len({notice.delivery.id for notice in notices}) == 2
    events = [event for event in desk.works.read_events("accepted") if "notice" in event]
    assert [event["notice"] for event in events] == ["failed", "relayed"]
    assert {event["about"] for event in events} == {claim.delivery.message_id}


async def test_no_success_is_told_about_a_notice(desk: Desk) -> None:
    claim = await desk.take(Recipient(b"r0@y.test", b"SUCCESS"), notice=True)
    await desk.end(claim, [OK])
    assert await desk.take_notices() == []


async def test_one_delay_is_told_once(server: Server, tmp_path: Path) -> None:
    async with open_desk(server, tmp_path, delay_notice="1h") as desk:
        await desk.end(await desk.take(accepted=time.time() - 3601), [LATER])
        (notice,) = await desk.take_notices()
        assert _read_actions([notice]) == ["delayed"]
        assert b"Will-Retry-Until: " in (notice.body or b"")
        # Even when the store has forgotten the notice and its id.
        await desk.end(notice, [OK])
        with server.client() as client:
            client.delete(*client.keys(f"*:story:{notice.delivery.message_id}"))
        for _ in range(2):
            await desk.end(await desk.take_again(), [LATER])
        assert await desk.take_notices() == []


async def test_no_delay_is_told_too_early_and_then_it_is(server: Server, tmp_path: Path) -> None:
    async with open_desk(server, tmp_path, delay_notice="1h") as desk:
        claim = await desk.take(accepted=time.time() - 3599)
        await desk.end(claim, [LATER])
        assert await desk.take_notices() == []
        again = await desk.take_again()
        delivery = msgspec.structs.replace(again.delivery, accepted=time.time() - 3601)
        # The last attempt was before the mark, this one is after it.
        last = json.loads(again.previous) | {"time": time.time() - 60}
        late = msgspec.structs.replace(again, delivery=delivery, previous=json.dumps(last).encode())
        await desk.end(late, [LATER])
        assert _read_actions(await desk.take_notices()) == ["delayed"]


@pytest.mark.parametrize(
    ("notify", "told"),
    [(b"", True), (b"DELAY", True), (b"SUCCESS,FAILURE", False), (b"NEVER", False)],
)
async def test_delay_is_told_to_who_wants_it(
    server: Server, tmp_path: Path, notify: bytes, told: bool
) -> None:
    async with open_desk(server, tmp_path, delay_notice="1h") as desk:
        people = (Recipient(b"r0@y.test", notify), Recipient(b"r1@y.test", b"NEVER"))
        claim = await desk.take(*people, accepted=time.time() - 3601)
        await desk.end(claim, [LATER, LATER])
        notices = await desk.take_notices()
        assert len(notices) == told
        assert not any(b"r1@y.test" in (notice.body or b"") for notice in notices)


@pytest.mark.parametrize(
    ("settings", "outcome"),
    [
        ({}, LATER),  # off
        ({"delay_notice": "1h"}, OK),
        ({"delay_notice": "1h", "unknown_outcome": "hold"}, LOST),  # it is not being tried
    ],
)
async def test_no_delay_is_told_without_one(
    server: Server, tmp_path: Path, settings: dict[str, str], outcome: Outcome
) -> None:
    async with open_desk(server, tmp_path, **settings) as desk:
        claim = await desk.take(accepted=time.time() - 3601)
        await desk.end(claim, [outcome], unknown=outcome is LOST)
        assert await desk.take_notices() == []


async def test_at_the_end_of_its_time_a_message_is_not_delayed_but_failed(
    server: Server, tmp_path: Path
) -> None:
    async with open_desk(server, tmp_path, delay_notice="1h", expire="2h") as desk:
        await desk.end(await desk.take(accepted=time.time() - 7201), [LATER])
        assert _read_actions(await desk.take_notices()) == ["failed"]


# -- recipients that are not tried


UNKNOWN = Outcome(Disposition.BOUNCED, Blame.RECIPIENT, "RCPT", 550, "5.1.1", "no such user")


async def _suppress(desk: Desk, *recipients: bytes, times: int = 2) -> None:
    for _ in range(times):
        await desk.end(await desk.take(*recipients, sender=b""), [UNKNOWN] * len(recipients))


@pytest.fixture
async def strict(server: Server, tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(server, tmp_path, suppress_after=2) as desk:
        yield desk


async def test_repeatedly_unknown_recipients_are_not_tried(strict: Desk) -> None:
    await _suppress(strict, *PEOPLE[:2])
    assert [e["recipient"] for e in strict.works.read_events("suppressed")] == [
        "r0@y.test",
        "r1@y.test",
    ]

    assert await strict.ending.withhold(await strict.take(*PEOPLE[:2])) is None

    assert await strict.books() == (0, 6, 0)
    event = strict.works.read_events("bounced")[-1]
    assert event["suppressed"] is True
    assert event["host"] == ""
    (notice,) = await strict.take_notices()
    body = notice.body or b""
    assert body.count(b"Status: 5.1.1") == 2
    assert b"outgate suppressed --lift" in b" ".join(body.split())
    assert b"Remote-MTA" not in body


async def test_the_others_are_tried_all_the_same(strict: Desk) -> None:
    await _suppress(strict, PEOPLE[1])
    claim = await strict.ending.withhold(await strict.take(*PEOPLE))
    assert claim is not None
    assert [r.address for r in claim.delivery.envelope.recipients] == [PEOPLE[0], PEOPLE[2]]

    await strict.end(claim, [OK, LATER])

    assert await strict.books() == (1, 3, 1)
    (notice,) = await strict.take_notices()
    assert b"r1@y.test" in (notice.body or b"")
    again = await strict.take_again()
    assert [r.address for r in again.delivery.envelope.recipients] == [PEOPLE[2]]


async def test_withheld_recipients_are_still_there_when_a_claim_is_given_back(strict: Desk) -> None:
    await _suppress(strict, PEOPLE[1])
    claim = await strict.ending.withhold(await strict.take(*PEOPLE))
    assert claim is not None
    await strict.ending.give_back(claim)

    again = await strict.take_again()
    assert len(again.delivery.envelope.recipients) == 3
    assert await strict.books() == (0, 2, 3)


async def test_success_forgets_what_was_held_against_a_recipient(strict: Desk) -> None:
    await _suppress(strict, PEOPLE[0], times=1)
    await strict.end(await strict.take(PEOPLE[0]), [OK])
    await _suppress(strict, PEOPLE[0], times=1)

    claim = await strict.take(PEOPLE[0])
    assert await strict.ending.withhold(claim) is claim
    await strict.ending.give_back(claim)


async def test_nothing_is_withheld_unless_it_is_asked_for(desk: Desk, server: Server) -> None:
    await _suppress(desk, PEOPLE[0], times=3)
    claim = await desk.take(PEOPLE[0])
    assert not desk.ending.withholds
    assert await desk.ending.withhold(claim) is claim
    await desk.ending.give_back(claim)
    with server.client() as client:
        assert not client.keys("*:unknown:*")
        assert not client.keys("*:suppressed")
