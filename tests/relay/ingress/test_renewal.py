"""What becomes of new files, and what is told of the old ones. The clock is virtual."""

import datetime as dt
import logging
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

import relay.ingress.renewal as renewal_module
from relay.events import EventLog, decode_event
from relay.ingress.renewal import Renewal
from relay.net.certificates import Certificates, load_pair
from tests.kit.pairs import issue, join_chain, write_pair

NOW = dt.datetime(2026, 6, 1, 12, 0, tzinfo=dt.UTC)
DAY = 86400.0


class Watched:
    """A renewal with one pair, and what it says."""

    def __init__(self, base: Path, authority: trustme.CA, *, days: float = 60) -> None:
        self.base = base
        self.authority = authority
        self.now = NOW.timestamp()
        self.pair = write_pair(base, issue(authority, "gw.test", now=NOW, days=days))
        self.certificates = Certificates([load_pair(self.pair)])
        self._log = EventLog(str(base / "events"))
        self.renewal = Renewal(self.certificates, self._log, clock=lambda: self.now)

    async def look(self, *, later: float = 0) -> list[str]:
        """Look so many days later; return the events that were written."""
        self.now += later * DAY
        before = len(self.read_events())
        await self.renewal.look()
        return [str(event["event"]) for event in self.read_events()[before:]]

    def read_events(self) -> list[dict[str, Any]]:
        self._log.flush()
        path = self.base / "events"
        return [decode_event(line) for line in path.read_bytes().splitlines()]

    @property
    def names(self) -> tuple[str, ...]:
        return self.certificates.loaded[0].certificate.names

    def issue(self, *names: str, days: float = 60) -> trustme.LeafCert:
        now = dt.datetime.fromtimestamp(self.now, dt.UTC)
        return issue(self.authority, *names, now=now, days=days)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def watched(tmp_path: Path, authority: trustme.CA) -> Watched:
    return Watched(tmp_path, authority)


async def test_nothing_new_is_nothing_to_tell(watched: Watched) -> None:
    context = watched.certificates.context

    assert await watched.look() == []
    assert watched.certificates.context is context


async def test_new_pair_is_taken_up(watched: Watched) -> None:
    write_pair(watched.base, watched.issue("new.test", days=90))

    assert await watched.look() == ["certificate-loaded"]
    assert watched.names == ("new.test",)
    event = watched.read_events()[-1]
    assert event == {
        "time": watched.now,
        "event": "certificate-loaded",
        "names": ["new.test"],
        "file": watched.pair.certificate,
        "expires": "2026-08-30T12:00:00+00:00",
        "days": 90,
    }
    assert await watched.look() == []


async def test_half_a_pair_is_told_once_and_the_rest_completes_it(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    new = watched.issue("new.test")
    Path(watched.pair.certificate).write_bytes(join_chain(new))

    assert await watched.look() == ["certificate-refused"]
    assert await watched.look() == []
    assert watched.names == ("gw.test",)
    event = watched.read_events()[-1]
    assert event["names"] == ["gw.test"]
    assert event["text"].startswith("ingress.tls: the key does not belong to the certificate")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "stays in use (until 2026-07-31); correct the files" in record.getMessage()

    Path(watched.pair.certificate).write_text("hello")  # something else is wrong now
    assert await watched.look() == ["certificate-refused"]

    write_pair(watched.base, new)
    assert await watched.look() == ["certificate-loaded"]
    Path(watched.pair.key).unlink()
    assert await watched.look() == ["certificate-refused"]


async def test_the_old_files_back_in_their_place_are_good(watched: Watched) -> None:
    key = Path(watched.pair.key)
    key.rename(watched.base / "away")
    assert await watched.look() == ["certificate-refused"]

    (watched.base / "away").rename(key)
    assert await watched.look() == []
    key.unlink()
    assert await watched.look() == ["certificate-refused"]  # again, so it is told again


async def test_pair_that_becomes_valid_is_taken_up_then(watched: Watched) -> None:
    now = dt.datetime.fromtimestamp(watched.now, dt.UTC)
    write_pair(watched.base, issue(watched.authority, "new.test", now=now, began=-1))

    assert await watched.look() == ["certificate-refused"]
    assert await watched.look(later=0.5) == []
    assert await watched.look(later=0.5) == ["certificate-loaded"]


async def test_end_is_told_once_a_day_from_fourteen_days_ahead(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    assert await watched.look(later=46) == []  # 14 days are left
    assert await watched.look(later=0.01) == ["certificate-expiring"]
    assert watched.read_events()[-1]["days"] == 13
    assert await watched.look(later=0.9) == []
    assert await watched.look(later=0.2) == ["certificate-expiring"]
    assert await watched.look(later=12.88) == ["certificate-expiring"]
    assert caplog.records[-1].levelno == logging.WARNING

    assert await watched.look(later=0.02) == ["certificate-expired"]  # not a day later
    assert caplog.records[-1].levelno == logging.ERROR
    assert "has expired, on 2026-07-31: gw.test" in caplog.records[-1].getMessage()
    assert await watched.look(later=0.5) == []
    assert await watched.look(later=0.5) == ["certificate-expired"]

    write_pair(watched.base, watched.issue("gw.test"))
    assert await watched.look(later=0.1) == ["certificate-loaded"]
    assert await watched.look(later=2) == []


async def test_new_pair_that_ends_soon_is_told_at_once(watched: Watched) -> None:
    await watched.look(later=47)
    write_pair(watched.base, watched.issue("gw.test", days=3))

    assert await watched.look() == ["certificate-loaded", "certificate-expiring"]


async def test_each_pair_is_looked_after_by_itself(watched: Watched, tmp_path: Path) -> None:
    other = write_pair(tmp_path, watched.issue("two.test"), name="2-", place="ingress.tls.more[0]")
    watched.certificates = Certificates([load_pair(watched.pair), load_pair(other)])
    watched.renewal = Renewal(watched.certificates, watched._log, clock=lambda: watched.now)
    Path(watched.pair.key).unlink()
    write_pair(tmp_path, watched.issue("three.test"), name="2-")

    assert await watched.look() == ["certificate-refused", "certificate-loaded"]
    assert [one.certificate.names for one in watched.certificates.loaded] == [
        ("gw.test",), ("three.test",),
    ]  # fmt: skip


async def test_files_are_looked_at_every_minute(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal_module, "LOOK", 0.02)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.renewal.run)
        with trio.fail_after(5):
            for name in ("one.test", "two.test"):
                write_pair(watched.base, watched.issue(name))
                await wait_for(watched, name)
        nursery.cancel_scope.cancel()


async def wait_for(watched: Watched, name: str) -> None:
    while True:
        if watched.names == (name,):
            return
        await trio.sleep(0.005)
