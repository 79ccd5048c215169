"""The reporter: what it makes of outcomes, when it hands them in, and what it tells."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from relay.config import Config
from relay.config.schema import Reputation, Source
from relay.errors import StoreUnavailable
from relay.events import EventLog, decode_event
from relay.model import Blame, Disposition, Outcome
from relay.store.link import Link
from relay.store.standing import Standing, Standings
from workers.reporter import Reporter

SITE = "site.example"
CONFIG = Config(
    source=(
        Source(name="a", address="192.0.2.1"),
        Source(name="b", address="192.0.2.2"),
        Source(name="c", address="198.51.100.1"),
        Source(name="six", address="2001:db8::1"),
    )
)
GOOD = Outcome(Disposition.DELIVERED, command=".", code=250)


def bad(action: str, *, label: str = "", text: str = "421 no", rest: float = 0.0) -> Outcome:
    return Outcome(Disposition.DEFERRED, Blame.SOURCE, ".", 421, "4.7.0", text, label, action, rest)


class Desk:
    """A reporter, and what it leads to."""

    def __init__(self, link: Link, path: Path, config: Config = CONFIG) -> None:
        self.link = link
        self.path = path
        self.events = EventLog(str(path))
        self.standings = Standings(link, config)
        self.reporter = Reporter(config, self.standings, self.events)

    async def see(self, source: str = "a", site: str = SITE) -> Standing | None:
        seconds, _ = await self.link.call("TIME")
        return (await self.standings.read([site], float(seconds))).get((site, source))

    async def read_events(self) -> list[dict[str, Any]]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.events.run)
            with trio.fail_after(5):
                while not (lines := self.path.read_bytes().splitlines()):  # noqa: ASYNC110 - a file
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        return [decode_event(line) for line in lines]


@pytest.fixture
async def desk(link: Link, tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(link, tmp_path / "events.jsonl")
    yield desk
    desk.events.close()


async def test_good_news_wait_for_company(desk: Desk) -> None:
    assert not desk.reporter.note(SITE, "a", "acme", [GOOD])
    await desk.reporter.flush()
    assert await desk.see() is None

    for _ in range(10):
        desk.reporter.note(SITE, "a", "acme", [GOOD, GOOD])
    await desk.reporter.flush()

    standing = await desk.see()
    assert standing is not None
    assert standing.evidence == pytest.approx(11, rel=1e-3)  # messages, not recipients


async def test_of_a_source_that_was_put_off_each_delivery_is_news(desk: Desk) -> None:
    desk.reporter.watch(SITE, "a")
    desk.reporter.note(SITE, "b", "acme", [GOOD])
    await desk.reporter.flush(bad_only=True)
    assert await desk.see() is None

    desk.reporter.note(SITE, "a", "acme", [GOOD])
    await desk.reporter.flush(bad_only=True)
    standing = await desk.see()
    assert standing is not None
    assert standing.evidence == pytest.approx(1, rel=1e-3)

    for _ in range(100):  # not for ever
        desk.reporter.note(SITE, "a", "acme", [GOOD])
        await desk.reporter.flush(bad_only=True)
    assert (await desk.see()).evidence == pytest.approx(20, rel=1e-3)  # type: ignore[union-attr]


async def test_at_the_end_all_is_handed_in(desk: Desk) -> None:
    desk.reporter.note(SITE, "a", "acme", [GOOD])
    await desk.reporter.flush(everything=True)
    assert await desk.see() is not None


@pytest.mark.parametrize("action", ["slow-source", "slow-netblock", "quarantine-source"])
async def test_some_answers_stop_the_source(desk: Desk, action: str) -> None:
    assert desk.reporter.note(SITE, "a", "acme", [GOOD, bad(action)])


@pytest.mark.parametrize(
    "action", ["retry", "bounce", "retry-same-source", "fewer-connections", "slow-tenant", ""]
)
async def test_others_do_not(desk: Desk, action: str) -> None:
    assert not desk.reporter.note(SITE, "a", "acme", [bad(action)])


async def test_bad_news_go_at_once(desk: Desk, autojump_clock: trio.testing.MockClock) -> None:
    """Real store, virtual clock: it does not jump while the store is waited for."""
    autojump_clock.autojump_threshold = 0.5
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.reporter.run)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        desk.reporter.note(SITE, "a", "acme", [bad("quarantine-source", text="blocked")])
        while await desk.see() is None:
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert trio.current_time() - began < 1
        nursery.cancel_scope.cancel()


async def test_a_block_is_an_event(desk: Desk) -> None:
    desk.reporter.note(SITE, "a", "acme", [bad("quarantine-source", text="550 5.7.1 blocked")])
    await desk.reporter.flush()

    (event,) = await desk.read_events()

    assert (event["event"], event["site"], event["source"]) == ("quarantined", SITE, "a")
    assert event["text"] == "550 5.7.1 blocked"
    assert event["until"] > event["time"]


async def test_a_netblock_is_all_sources_in_it(desk: Desk) -> None:
    desk.reporter.note(SITE, "a", "acme", [bad("slow-netblock")])
    await desk.reporter.flush()

    paces = {}
    for name in ("a", "b", "c", "six"):
        standing = await desk.see(name)
        paces[name] = standing and standing.pace
    assert paces["a"] is not None
    assert paces["b"] is not None
    assert paces["c"] is paces["six"] is None


async def test_a_tenant_is_put_off(desk: Desk) -> None:
    desk.reporter.note(SITE, "a", "acme", [bad("slow-tenant", rest=90, text="DKIM domain")])
    await desk.reporter.flush()

    ((tenant, (_, why)),) = (await desk.standings.read_put_off([SITE], 0))[SITE].items()

    assert (tenant, why) == ("acme", "DKIM domain")


async def test_what_a_reply_asks_for_counts(desk: Desk) -> None:
    desk.reporter.note(SITE, "a", "acme", [bad("slow-source", text="try again in 20 minutes")])
    await desk.reporter.flush()

    (event,) = await desk.read_events()

    assert event["wait"] == 1200


async def test_unknown_recipients_and_complaints_count(desk: Desk) -> None:
    desk.reporter.note(SITE, "a", "acme", [bad("bounce", label="mailbox_unknown")])
    desk.reporter.note_signal(SITE, "a", "acme", complaint=True)
    await desk.reporter.flush(everything=True)

    standing = await desk.see()

    assert standing is not None
    assert standing.score < 0.5


async def test_bad_news_survive_a_store_that_is_away(tmp_path: Path, link: Link) -> None:
    class Away(Standings):
        gone = True

        async def report(self, *arguments: Any) -> Any:
            if self.gone:
                raise StoreUnavailable("away", executed=False)
            return await super().report(*arguments)

    desk = Desk(link, tmp_path / "events.jsonl")
    away = Away(link, CONFIG)
    reporter = Reporter(CONFIG, away, desk.events)
    reporter.note(SITE, "a", "acme", [bad("quarantine-source")])
    await reporter.flush()
    assert await desk.see() is None
    away.gone = False
    await reporter.flush()
    standing = await desk.see()
    assert standing is not None
    assert standing.quarantine is not None
    desk.events.close()


async def test_switched_off_it_is_silent(link: Link, tmp_path: Path) -> None:
    desk = Desk(link, tmp_path / "events.jsonl", Config(reputation=Reputation(enabled=False)))
    assert not desk.reporter.note(SITE, "a", "acme", [bad("quarantine-source")])
    await desk.reporter.flush(everything=True)
    assert await desk.see() is None
    desk.events.close()


async def test_bad_news_that_the_store_did_not_take_are_joined_by_what_came_since(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = desk.standings.report

    async def refuse(*_: object) -> None:
        desk.reporter.note(SITE, "a", "acme", [GOOD])  # while we wait
        raise StoreUnavailable("away", executed=False)

    desk.reporter.note(SITE, "a", "acme", [bad("quarantine-source", text="blocked")])
    monkeypatch.setattr(desk.standings, "report", refuse)
    await desk.reporter.flush()
    monkeypatch.setattr(desk.standings, "report", report)
    await desk.reporter.flush()

    standing = await desk.see()
    assert standing is not None
    assert standing.quarantine is not None
    assert standing.evidence == pytest.approx(26, rel=1e-3)
