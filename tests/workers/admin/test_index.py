"""The index of messages: written, searched, forgotten."""

import os
import random
import re
import sqlite3
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.config import Config, read
from relay.errors import RecordsUnavailable
from tests.workers.admin.happenings import NOON, accept, attempt, deliver
from workers.admin import filing, search
from workers.admin.database import Database
from workers.admin.entry import OUTCOMES, fold, number_at
from workers.admin.filing import SCHEMA, VERSION, choose_bucket, file_entries
from workers.admin.index import Index
from workers.admin.purge import count_octets
from workers.admin.question import Question, read_question
from workers.admin.search import find


class Clock:
    """The time of day, as a test has it."""

    now = NOON + 60

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def admin_config(tmp_path: Path) -> Config:
    (tmp_path / "state").mkdir()
    settings = {"state_dir": "state", "admin": {"remember": "1h", "max_index": "64MiB"}}
    return read(settings, base=tmp_path, environment={})


@pytest.fixture
def index(admin_config: Config, clock: Clock) -> Iterator[Index]:
    index = Index(admin_config, clock=clock)
    yield index
    index.close()


async def look(index: Index, **asked: Any) -> list[str]:
    """Return the ids of what is found."""
    found = await index.search(Question(**asked))
    return [message["id"] for message in found["messages"]]


# -- what is found


async def test_a_message_is_told_as_it_was_heard(index: Index) -> None:
    taken = accept("Bob@example.org", "eve@other.test")
    await index.add([taken, attempt("delivered", taken, {"Bob@example.org": "delivered"})])

    (message,) = (await index.search(Question(id=taken["id"])))["messages"]

    assert message == {
        "id": taken["id"], "time": NOON, "tenant": "acme", "sender": "ann@acme.example",
        "recipients": 2, "domains": ["example.org", "other.test"],
        "message_id": "1@acme.example", "size": 4321, "outcome": "queued",
    }  # fmt: skip


@pytest.mark.parametrize(
    "asked",
    [
        {"message_id": "<1@acme.example>"},
        {"message_id": "1@acme.example"},
        {"sender": "ANN@acme.example"},
        {"sender": "@ACME.example"},
        {"sender": "an*"},
        {"recipient": "BOB@Example.org"},
        {"recipient": "@example.org"},
        {"recipient": "bob@ex*"},
        {"domain": "Example.ORG"},
        {"tenant": "acme"},
        {"outcome": "delivered"},
        {"start": NOON - 1, "end": NOON + 1},
        {"sender": "ann@acme.example", "recipient": "bo*", "domain": "example.org",
         "tenant": "acme", "outcome": "delivered", "message_id": "1@acme.example"},
        {"sender": "a*", "recipient": "b*"},
    ],
)  # fmt: skip
async def test_a_message_is_found_by_each_of_its_fields(
    index: Index, asked: dict[str, Any]
) -> None:
    taken = accept("bob@example.org")
    other = accept(
        "joe@other.test", sender="eve@evil.test", tenant="evil", message_id="<2@x>", at=NOON + 9
    )
    await index.add([taken, deliver(taken), other])

    assert await look(index, **asked) == [taken["id"]]
    assert len(await look(index)) == 2


@pytest.mark.parametrize(
    "asked",
    [
        {"sender": "ann"},
        {"sender": "ann@acme.example", "tenant": "evil"},
        {"recipient": "bob@example.org", "outcome": "queued"},
        {"recipient": "' OR 1=1 --"},
        {"recipient": "%"},
        {"recipient": "%*"},
        {"tenant": "acm"},
        {"start": NOON + 1},
        {"end": NOON - 1},
    ],
)
async def test_what_does_not_match_is_not_found(index: Index, asked: dict[str, Any]) -> None:
    taken = accept("bob@example.org")
    await index.add([taken, deliver(taken)])

    assert await look(index, **asked) == []


async def test_the_null_sender_is_found(index: Index) -> None:
    notice = accept(sender="")
    await index.add([notice, accept()])

    assert await look(index, sender="<>") == [notice["id"]]


@pytest.mark.parametrize(
    "asked",
    [
        {"id": "nonsense"},
        {"outcome": "lost"},
        {"limit": 0},
        {"limit": 501},
        {"after": "x"},
        {"after": "1.y"},
        {"after": str(1 << 70)},
        {"sender": "x" * 1001},
        {"sender": "@acm*"},
        {"start": float("nan")},
    ],
)
async def test_what_cannot_be_asked_is_refused(index: Index, asked: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^(id|outcome|limit|after|sender|@acm.|from): |domain"):
        await look(index, **asked)


# -- in the order in which it is heard


async def test_an_end_may_be_heard_before_the_beginning(index: Index) -> None:
    taken = accept("bob@example.org", "eve@other.test")
    await index.add([attempt("delivered", taken, {"bob@example.org": "delivered"})])
    (before,) = (await index.search(Question(recipient="bob@example.org")))["messages"]
    await index.add([taken])
    (after,) = (await index.search(Question(sender="ann@acme.example")))["messages"]

    assert (before["sender"], before["outcome"], before["time"]) == (None, "delivered", NOON)
    assert (after["recipients"], after["outcome"], after["size"]) == (2, "queued", 4321)
    assert await look(index, recipient="eve@other.test") == [taken["id"]]
    await index.add([attempt("delivered", taken, {"eve@other.test": "delivered"})])
    assert await look(index, outcome="delivered") == [taken["id"]]


async def test_an_end_is_heard_long_after_the_beginning(index: Index) -> None:
    taken = accept("bob@example.org")
    await index.add([taken])
    assert await look(index, outcome="queued") == [taken["id"]]
    await index.add([attempt("deferred", taken, {"bob@example.org": "deferred"})])
    assert await look(index, outcome="queued") == [taken["id"]]
    await index.add([attempt("bounced", taken, {"bob@example.org": "deferred"})])

    assert await look(index, outcome="queued") == []
    assert await look(index, outcome="bounced") == [taken["id"]]


async def test_what_is_heard_twice_is_there_once(index: Index) -> None:
    taken = accept("bob@example.org")
    for _ in range(2):
        await index.add([taken, deliver(taken)])

    assert await look(index, domain="example.org") == [taken["id"]]


async def test_an_unknown_id_is_looked_for_in_the_store(index: Index) -> None:
    taken = accept("bob@example.org")

    async def read_story(message_id: str) -> list[dict[str, Any]]:
        return [taken, deliver(taken)] if message_id == taken["id"] else []

    found = await index.search(Question(id=taken["id"].lower() + ".0"), read_story)
    other = await index.search(Question(id=accept()["id"]), read_story)

    assert [one["id"] for one in found["messages"]] == [taken["id"]]
    assert found["messages"][0]["outcome"] == "delivered"
    assert other["messages"] == []


# -- pages


async def read_pages(index: Index, **asked: Any) -> list[str]:
    identities: list[str] = []
    question = Question(**asked)
    while True:
        found = await index.search(question)
        identities += [message["id"] for message in found["messages"]]
        if found["next"] is None:
            return identities
        question = msgspec.structs.replace(question, after=found["next"])


@pytest.mark.parametrize("asked", [{}, {"tenant": "acme"}, {"sender": "a*"}, {"outcome": "queued"}])
async def test_pages_have_everything_once_the_newest_first(
    index: Index, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]
) -> None:
    monkeypatch.setattr(filing, "BUCKET", 10)
    monkeypatch.setattr(search, "WINDOW", 4)
    events = [accept(at=NOON + number) for number in range(47)]
    for start in range(0, len(events), 5):
        await index.add(events[start : start + 5])

    for limit in (1, 7, 100):
        found = await read_pages(index, limit=limit, **asked)
        assert found == [event["id"] for event in reversed(events)]


async def test_a_page_ends_when_its_time_is_over(
    index: Index, monkeypatch: pytest.MonkeyPatch, admin_config: Config
) -> None:
    monkeypatch.setattr(search, "WINDOW", 10)
    rare = accept(sender="rare@acme.example", at=NOON)
    await index.add([rare, *(accept(at=NOON + 1 + number) for number in range(100))])
    wanted = read_question(Question(tenant="acme", sender="rare*"))
    file = sqlite3.connect(os.path.join(admin_config.state_dir, "admin.db"))

    # The tenant's word leads; nobody has patience.
    page, pages = find(file, wanted, None, 0.0), 1
    while page.next is not None and not page.messages:
        page, pages = find(file, wanted, page.next, 0.0), pages + 1
    file.close()

    assert [message["id"] for message in page.messages] == [rare["id"]]
    assert pages == 11


async def test_what_takes_too_long_is_cut_off(tmp_path: Path) -> None:
    database = Database(str(tmp_path / "x.db"), SCHEMA, VERSION, patience=0.01)
    forever = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT sum(x) FROM c"
    with pytest.raises(RecordsUnavailable, match="ask for less"):
        await database.read(lambda connection, _: connection.execute(forever).fetchone())

    assert await database.read(lambda c, _: c.execute("SELECT 1").fetchone()) == (1,)
    database.close()


_WORDS = st.sampled_from(["ann", "anna", "bob", "eve"])
_DOMAINS = st.sampled_from(["acme.example", "x.test", "y.test"])
_ADDRESSES = st.builds("{}@{}".format, _WORDS, _DOMAINS)
_ASKED = st.fixed_dictionaries(
    {},
    optional={
        "sender": _ADDRESSES | _WORDS.map("{}*".format) | _DOMAINS.map("@{}".format),
        "recipient": _ADDRESSES | _WORDS.map("{}*".format) | _DOMAINS.map("@{}".format),
        "domain": _DOMAINS,
        "tenant": st.sampled_from(["one", "two"]),
        "outcome": st.sampled_from(OUTCOMES),
        "message_id": st.sampled_from(["<1@x>", "<2@x>"]),
        "start": st.integers(0, 30).map(lambda n: NOON + n - 0.5),
        "end": st.integers(0, 30).map(lambda n: NOON + n - 0.5),
    },
)
_MESSAGES = st.lists(
    st.tuples(
        _ADDRESSES,
        st.lists(_ADDRESSES, min_size=1, max_size=3, unique=True),
        st.sampled_from(["one", "two"]),
        st.sampled_from(["<1@x>", "<2@x>"]),
        st.sampled_from(OUTCOMES),
    ),
    max_size=30,
)


def is_wanted(message: dict[str, Any], asked: dict[str, Any]) -> bool:
    """Say what the words of a question mean, without an index."""

    def fits(address: str, wanted: str) -> bool:
        if wanted.startswith("@"):
            return address.endswith(wanted)
        return address.startswith(wanted[:-1]) if wanted.endswith("*") else address == wanted

    return (
        fits(message["sender"], asked.get("sender", "*"))
        and any(fits(address, asked.get("recipient", "*")) for address in message["recipients"])
        and any(a.endswith(f"@{asked.get('domain', '')}") or "domain" not in asked
                for a in message["recipients"])
        and asked.get("tenant", message["tenant"]) == message["tenant"]
        and asked.get("message_id", message["message_id"]) == message["message_id"]
        and asked.get("outcome", message["outcome"]) == message["outcome"]
        and asked.get("start", 0) <= message["time"] < asked.get("end", 1e12)
    )  # fmt: skip


@given(_MESSAGES, _ASKED, st.integers(1, 5), st.integers(1, 9))
@settings(max_examples=150, deadline=None)
def test_search_finds_what_is_meant(
    messages: list[Any], asked: dict[str, Any], limit: int, bucket: int
) -> None:
    file = sqlite3.connect(":memory:")
    file.executescript(SCHEMA)
    expected = []
    for number, (sender, people, tenant, name, outcome) in enumerate(messages):
        at = NOON + number
        taken = accept(*people, sender=sender, tenant=tenant, message_id=name, at=at)
        events = [taken]
        if outcome != "queued":
            events.append(attempt(outcome, taken, dict.fromkeys(people, outcome)))
        entries = fold(events)
        file_entries(file, entries, number // bucket, set())
        row = (number // bucket, 0, 0, number_at(0), number_at(1e10), 0)
        file.execute("INSERT OR IGNORE INTO buckets VALUES (?, ?, ?, ?, ?, ?)", row)
        if is_wanted(taken | {"outcome": outcome}, asked):
            expected.append(taken["id"])

    found, place = list[Any](), None
    while True:
        page = find(file, read_question(Question(**asked, limit=limit)), place, 0.0)
        found += [message["id"] for message in page.messages]
        if (place := page.next) is None:
            break
    file.close()

    assert found == expected[::-1]


# -- how it is found


@pytest.mark.parametrize(
    "asked",
    [
        {}, {"tenant": "a"}, {"sender": "a@b"}, {"sender": "a*"}, {"recipient": "a*"},
        {"domain": "x"}, {"outcome": "queued"}, {"outcome": "bounced"}, {"outcome": "delivered"},
        {"message_id": "x", "sender": "a*", "recipient": "@b", "tenant": "t", "outcome": "queued"},
        {"sender": "a*", "recipient": "b*", "outcome": "bounced", "start": 1.0, "end": 2e9},
    ],
)  # fmt: skip
def test_every_search_uses_an_index(asked: dict[str, Any]) -> None:
    file = sqlite3.connect(":memory:")
    file.executescript(SCHEMA)
    entries = fold([accept()])
    file_entries(file, entries, choose_bucket(file, entries, 0), set())
    statements: list[str] = []
    file.set_trace_callback(statements.append)
    find(file, read_question(Question(**asked)), None, time.monotonic() + 9)
    file.set_trace_callback(None)

    plans = []
    for statement in statements:
        if re.search(r"\b(messages|terms|recipients)\b", statement):
            plans += [row[3] for row in file.execute(f"EXPLAIN QUERY PLAN {statement}")]
    file.close()
    bad = [
        step for step in plans
        if step.startswith("SCAN") and "json_each" not in step and step != "SCAN c"
        and not re.fullmatch(r"SCAN messages USING (COVERING )?INDEX (queued|bounced)", step)
    ]  # fmt: skip
    assert plans
    assert not bad, plans
    assert not [step for step in plans if "ORDER BY" in step], plans


# -- gaps


async def test_what_was_not_heard_is_told(admin_config: Config, clock: Clock) -> None:
    index = Index(admin_config, clock=clock)
    await hear(index, [[accept()]])
    index.close()
    clock.now += 100
    index = Index(admin_config, clock=clock)
    await hear(
        index,
        [[{"time": clock.now, "event": "missed", "count": 7}],
         [{"time": clock.now, "event": "missed", "count": None, "since": clock.now - 30}],
         [{"time": clock.now, "event": "missed", "count": None, "since": clock.now}],
         [{"time": clock.now, "event": "dropped", "count": 3}]],
    )  # fmt: skip
    found = await index.search(Question())
    index.close()

    now = clock.now
    assert found["since"] == NOON + 60
    assert found["gaps"] == [
        {"from": now, "to": now, "missed": 3},
        {"from": now - 30, "to": now, "missed": None},
        {"from": now, "to": now, "missed": 7},
        {"from": NOON + 60, "to": now, "missed": None},
    ]


async def hear(index: Index, batches: list[list[dict[str, Any]]]) -> None:
    """Hand batches on as they come, until they are written."""
    send, receive = trio.open_memory_channel[list[dict[str, Any]]](100)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(index.run, receive)
        for batch in batches:
            await send.send(batch)
        send.close()


async def test_events_are_written_together_soon(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.admin.index.WAIT", 0.1)
    send, receive = trio.open_memory_channel[list[dict[str, Any]]](10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(index.run, receive)
        taken = accept()
        await send.send([taken])
        await send.send([deliver(taken)])
        with trio.fail_after(20):
            while not (found := await look(index, tenant="acme")):  # noqa: ASYNC110
                await trio.sleep(0.05)
        assert found == await look(index, outcome="delivered") == [taken["id"]]
        nursery.cancel_scope.cancel()


# -- forgetting


async def test_what_is_too_old_is_forgotten(
    index: Index, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filing, "BUCKET", 20)
    old = [accept(f"b{number}@x.test", at=NOON + number) for number in range(40)]
    new = [accept(f"b{number}@x.test", at=NOON + 3600 + number) for number in range(40)]
    clock.now = NOON
    for events in (old, new):
        for start in range(0, 40, 20):
            await index.add(events[start : start + 20])
    clock.now = NOON + 3600 + 50
    await index.purge()

    expected = [event["id"] for event in reversed(new)]
    assert await look(index, limit=500) == expected
    assert await look(index, domain="x.test", limit=500) == expected
    assert (await index.search(Question()))["since"] == pytest.approx(NOON + 39, abs=0.01)
    assert count_rows(index) == (40, 40, 40 * 6)


def count_rows(index: Index) -> tuple[int, ...]:
    file = sqlite3.connect(index.path)
    counts = tuple(
        file.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        for table in ("messages", "recipients", "terms")
    )
    file.close()
    return counts


async def test_a_bucket_is_closed_in_time(index: Index, clock: Clock) -> None:
    await index.add([accept(at=NOON)])
    clock.now = NOON + 1800
    later = accept(at=clock.now)
    await index.add([later])
    clock.now = NOON + 3602
    await index.purge()

    assert await look(index) == [later["id"]]


async def test_the_file_keeps_its_size(
    admin_config: Config, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filing, "BUCKET", 1000)
    admin = replace_admin(admin_config, max_index=4 << 20)
    index = Index(admin, clock=clock)
    latest = ""
    for start in range(0, 12_000, 500):
        events = [accept(f"b{n}@x.test", at=NOON + n / 1000) for n in range(start, start + 500)]
        await index.add(events)
        await index.purge()
        latest = events[-1]["id"]
    file = sqlite3.connect(index.path)
    octets = count_octets(file)
    file.close()

    assert await look(index, limit=1) == [latest]
    assert octets <= 4 << 20
    assert os.path.getsize(index.path) < 6 << 20
    assert (await index.search(Question()))["since"] > NOON
    index.close()


def replace_admin(config: Config, **changes: Any) -> Config:
    return msgspec.structs.replace(config, admin=msgspec.structs.replace(config.admin, **changes))


# -- the file


async def test_the_file_is_nobody_elses(index: Index) -> None:
    await index.add([accept()])

    for path in (index.path, index.path + "-wal"):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


@pytest.mark.parametrize("octets", [b"this is no database, and long enough to be looked at" * 100])
async def test_a_file_that_cannot_be_read_is_begun_anew(
    admin_config: Config, clock: Clock, octets: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(admin_config.state_dir) / "admin.db"
    path.write_bytes(octets)
    index = Index(admin_config, clock=clock)
    taken = accept()
    await index.add([taken])

    assert await look(index) == [taken["id"]]
    assert "begun anew" in caplog.text
    index.close()


async def test_a_file_of_another_version_is_begun_anew(admin_config: Config, clock: Clock) -> None:
    path = Path(admin_config.state_dir) / "admin.db"
    file = sqlite3.connect(path)
    file.execute("CREATE TABLE messages (x)")
    file.execute(f"PRAGMA user_version = {VERSION + 1}")
    file.close()
    index = Index(admin_config, clock=clock)
    taken = accept()
    await index.add([taken])

    assert await look(index) == [taken["id"]]
    index.close()


async def test_a_file_that_breaks_while_it_is_in_use_is_begun_anew(
    index: Index, caplog: pytest.LogCaptureFixture
) -> None:
    await index.add([accept(f"b{number}@x.test") for number in range(3000)])
    await trio.to_thread.run_sync(checkpoint, index)
    with open(index.path, "r+b") as file:
        file.seek(4096)
        file.write(random.Random(1).randbytes(os.path.getsize(index.path) - 4096))
    events = [accept(f"c{number}@x.test") for number in range(3000)]
    for _ in range(2):
        await index.add(events)

    assert "begun anew" in caplog.text
    found = await index.search(Question(limit=500))
    assert len(found["messages"]) == 500
    assert found["gaps"][0]["missed"] == 3000


async def test_a_file_that_cannot_be_made_is_tried_again(index: Index) -> None:
    away = Path(index.path).parent.with_name("away")
    await index.add([accept()])
    await trio.to_thread.run_sync(checkpoint, index)
    with open(index.path, "r+b") as file:
        file.write(b"x" * os.path.getsize(index.path))
    # SQLite sees it when it looks at the file again: another process has written, it thinks.
    Path(index.path).parent.rename(away)
    await index.add([accept()])
    await index.add([accept()])
    away.rename(Path(index.path).parent)
    for _ in range(2):
        taken = accept()
        await index.add([taken])

    assert taken["id"] in await look(index)


async def test_a_full_disk_costs_events_and_nothing_else(
    index: Index, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, third = accept(), accept(at=NOON + 1), accept(at=NOON + 2)
    await index.add([first])
    holder = sqlite3.connect(index.path, isolation_level=None)
    (pages,) = holder.execute("PRAGMA page_count").fetchone()
    await limit_pages(index, pages)
    await index.add([second, *(accept(f"{n}@x.test", at=NOON + 1) for n in range(500))])
    assert "full" in caplog.text
    assert await look(index) == [first["id"]]
    await limit_pages(index, 1 << 30)
    await index.add([third])
    holder.close()

    found = await index.search(Question())
    assert [one["id"] for one in found["messages"]] == [third["id"], first["id"]]
    assert [gap["missed"] for gap in found["gaps"]] == [501]


async def limit_pages(index: Index, count: int) -> None:
    """Let the file have so many pages: SQLite says what it says on a full disk."""
    await index.database.write(
        lambda connection: connection.execute(f"PRAGMA max_page_count = {count}").fetchall()
    )


def checkpoint(index: Index) -> None:
    """Have everything in the file itself."""
    file = sqlite3.connect(index.path)
    file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file.close()
