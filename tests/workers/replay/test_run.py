"""A replay to servers that do as a script says: what arrives, what is tried again, what is counted."""

import ssl
from collections import Counter
from pathlib import Path

import pytest
import trio

from relay.config.units import parse_rate
from relay.errors import StartError
from relay.net.tls import make_client_context
from tests.kit.authority import Authority
from tests.kit.peer import ScriptedHost, open_host
from workers.replay.addresses import Addressing
from workers.replay.files import Reading
from workers.replay.journal import Journal
from workers.replay.line import Target
from workers.replay.pace import Pace
from workers.replay.report import describe
from workers.replay.run import Plan, Run


def write(directory: Path, count: int, content: bytes = b"hello\r\n") -> Path:
    for number in range(count):
        head = b"To: r%d@example.com\r\nSubject: %d\r\n\r\n" % (number, number)
        (directory / f"{number:04}.eml").write_bytes(head + content)
    return directory


def make_run(
    host: ScriptedHost, *paths: Path, journal: Journal | None = None, **options: object
) -> Run:
    given = {"connections": 1, "wait": 0.01, **options}
    tls = given.pop("tls", "none")
    context = given.pop("context", None) or make_client_context(verify=False)
    assert isinstance(context, ssl.SSLContext)
    target = Target("127.0.0.1", host.port, "mx.test", "0.0.0.0", b"client.test", tls, context)  # type: ignore[arg-type]
    given.setdefault("addressing", Addressing())
    given.setdefault("pace", Pace())
    return Run(Plan(reading=Reading(paths), target=target, **given), journal)  # type: ignore[arg-type]


async def test_every_message_arrives_as_it_lies_there(tmp_path: Path) -> None:
    odd = b".\r\n..dots\r\n8-bit \xe9\r\na bare \r here, \0\r\n" + b"x" * 300_000 + b"\r\n"
    async with open_host() as host:
        run = make_run(host, write(tmp_path, 3, odd), field=b"X-Secret: s\r\n")
        await run.run()

    assert [one.recipients for one in host.messages] == [
        (b"r%d@example-com.test" % n,) for n in range(3)
    ]
    assert all(one.content.startswith(b"X-Secret: s\r\nTo: r") for one in host.messages)
    assert all(one.content.endswith(odd) for one in host.messages)
    assert host.sessions == 1
    assert run.tally.is_clean
    assert run.tally.recipients == {"accepted": 3}


async def test_lf_becomes_crlf_and_an_end_without_one_stays_where_chunks_are_offered(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.eml").write_bytes(b"To: a@b.example\n\nhello\nno end")
    async with open_host(offers=("PIPELINING", "CHUNKING")) as host:
        await make_run(host, tmp_path).run()

    assert host.messages[0].content == b"To: a@b.example\r\n\r\nhello\r\nno end"


async def test_connections_are_made_anew_and_side_by_side(tmp_path: Path) -> None:
    async with open_host("CONNECT wait") as host:
        run = make_run(host, write(tmp_path, 40), connections=4, per_connection=5)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run.run)
            await host.wait_until(lambda: host.open == 4)
            host.gate.set()

    assert len(host.messages) == 40
    assert host.sessions >= 8
    assert max(Counter(one.session for one in host.messages).values()) <= 5


async def test_what_is_temporary_is_tried_again_for_those_who_are_open(tmp_path: Path) -> None:
    (tmp_path / "a.eml").write_bytes(b"To: a@x.test, b@x.test, c@x.test\r\n\r\nx\r\n")
    script = "RCPT2 450 4.2.0 later\nRCPT3 550 5.1.1 nobody here"
    async with open_host(script) as host:
        run = make_run(host, tmp_path)
        await run.run()

    assert [one.recipients for one in host.messages] == [(b"a@x.test",), (b"b@x.test",)]
    assert run.tally.recipients == {"accepted": 2, "refused": 1}
    assert run.tally.messages == {"partly": 1}
    assert not run.tally.is_clean
    report = describe(run)
    assert report["failed"][0]["reply"].startswith("RCPT: 550 5.1.1")
    labels = {one["label"] for one in report["replies"]}
    assert "mailbox_unknown" in labels


async def test_patience_ends(tmp_path: Path) -> None:
    async with open_host("MAIL 451 4.3.0 later") as host:
        run = make_run(host, write(tmp_path, 1), retries=2)
        await run.run()

    assert host.counts["MAIL"] == 3
    assert run.tally.messages == {"failed": 1}
    assert run.tally.retries == 2


@pytest.mark.parametrize("how", ["eof", "reset"])
async def test_no_answer_to_the_dot_is_unknown_and_sent_again(tmp_path: Path, how: str) -> None:
    async with open_host(f".1 {how}") as host:
        run = make_run(host, write(tmp_path, 1))
        await run.run()

    assert run.tally.unknown == 1
    assert run.tally.messages == {"accepted": 1}
    assert describe(run)["unanswered"] == 1


async def test_nobody_there_is_said_once(tmp_path: Path) -> None:
    async with open_host() as host:
        run = make_run(host, write(tmp_path, 50), connections=10)
    # The host is gone, and its port with it.
    with pytest.RaisesGroup(StartError, flatten_subgroups=True):
        await run.run()


async def test_a_server_that_refuses_everybody_ends_in_the_report(tmp_path: Path) -> None:
    async with open_host("CONNECT 554 5.7.1 not you") as host:
        run = make_run(host, write(tmp_path, 2), retries=1)
        await run.run()

    assert run.tally.messages == {"failed": 2}
    assert run.tally.not_opened == 4


# -- TLS


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.mark.parametrize(
    ("level", "names", "arrives"),
    [
        ("none", ["mx.test"], "clear"),
        ("opportunistic", ["other.test"], "TLS"),
        ("require", ["other.test"], "TLS"),
        ("verify", ["mx.test"], "TLS"),
        ("verify", ["other.test"], ""),
    ],
)
async def test_tls_is_as_strict_as_it_was_asked_to_be(
    tmp_path: Path, authority: Authority, level: str, names: list[str], arrives: str
) -> None:
    (tmp_path / "corpus").mkdir()
    trusted = str(authority.write(tmp_path))
    context = make_client_context(
        verify=level == "verify", ca_file=trusted if level == "verify" else ""
    )
    async with open_host(tls=authority.issue(*names).make_context()) as host:
        run = make_run(host, write(tmp_path / "corpus", 1), tls=level, context=context)
        if not arrives:
            with pytest.RaisesGroup(StartError, flatten_subgroups=True):
                await run.run()
        else:
            await run.run()

    assert ["TLS" if one.tls else "clear" for one in host.messages] == (
        [arrives] if arrives else []
    )


async def test_tls_that_is_required_and_not_offered_is_no_session(tmp_path: Path) -> None:
    async with open_host() as host:
        with pytest.RaisesGroup(StartError, flatten_subgroups=True):
            await make_run(host, write(tmp_path, 1), tls="require").run()

    assert host.messages == []


# -- pace and bounds


async def test_a_rate_is_kept(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    # The clock jumps when all wait, for the thread that reads too; what is due is not.
    autojump_clock.autojump_threshold = 0.2
    async with open_host() as host:
        run = make_run(host, write(tmp_path, 5), pace=Pace(rate=parse_rate("2/m")))
        await run.run()

    assert [round(time - host.times[0]) for time in host.times] == [0, 30, 60, 90, 120]


async def test_as_recorded_goes_in_order_and_as_far_apart_as_it_came(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    autojump_clock.autojump_threshold = 0.2
    for name, minute in (("a", 20), ("b", 0), ("c", 10)):
        field = b"Received: from x by y; Mon, 5 Jan 2026 08:%02d:00 +0000\r\n" % minute
        (tmp_path / f"{name}.eml").write_bytes(field + b"To: %s@x.test\r\n\r\n" % name.encode())
    async with open_host() as host:
        run = make_run(host, tmp_path, pace=Pace(factor=10.0))
        await run.run()

    assert [one.recipients[0][:1] for one in host.messages] == [b"b", b"c", b"a"]
    assert [round(time - host.times[0]) for time in host.times] == [0, 60, 120]
    assert run.tally.position == sum(path.stat().st_size for path in tmp_path.iterdir())


async def test_count_repeat_and_time_end_it(tmp_path: Path) -> None:
    write(tmp_path, 3)
    async with open_host() as host:
        await make_run(host, tmp_path, rounds=0, most=7).run()
        await make_run(host, tmp_path, rounds=2).run()
        await make_run(host, tmp_path, rounds=0, lasts=0.3).run()

    assert len(host.messages) > 13


async def test_what_is_in_hand_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.replay.run._HELD", 3000)
    most = 0
    async with open_host() as host:
        run = make_run(host, write(tmp_path, 30, b"x" * 1000 + b"\r\n"), connections=10)

        async def look() -> None:
            nonlocal most
            while True:
                most = max(most, run._held)
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            await run.run()
            nursery.cancel_scope.cancel()

    assert len(host.messages) == 30
    assert 0 < most <= 3000


async def test_stopping_finishes_what_is_in_flight(tmp_path: Path) -> None:
    async with open_host(".1 wait") as host:
        run = make_run(host, write(tmp_path, 10))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run.run)
            await host.wait_until(lambda: host.counts["."] == 1)
            run.stop()
            host.gate.set()

    assert run.tally.messages == {"accepted": 1}
    assert run.tally.taken == 1
    assert run.stopped


# -- the journal


async def test_what_is_done_is_not_sent_again(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    corpus, file = write(tmp_path / "corpus", 6), tmp_path / "journal"
    async with open_host("MAIL3 550 5.7.1 no\nMAIL4 450 4.7.1 later") as host:
        journal = Journal(file)
        first = make_run(host, corpus, journal=journal, most=4, retries=0)
        await first.run()
        journal.close()
        journal = Journal(file)
        second = make_run(host, corpus, journal=journal, retries=0)
        await second.run()
        journal.close()

    assert first.tally.messages == {"accepted": 2, "refused": 1, "failed": 1}
    assert second.tally.earlier == {"accepted": 2, "refused": 1}
    assert second.tally.messages == {"accepted": 3}
    # The host takes the empty content that ends a pipelined transaction without recipients.
    subjects = [one.content.partition(b"Subject: ")[2][:1] for one in host.messages if one.content]
    assert subjects == [b"0", b"1", b"3", b"4", b"5"]


def test_a_torn_line_and_another_corpus_are_noticed(tmp_path: Path) -> None:
    file = tmp_path / "journal"
    journal = Journal(file)
    journal.write(0, "a.eml", 10, "A")
    with pytest.raises(StartError, match="another replay has it"):
        Journal(file)
    journal.close()
    with file.open("ab") as torn:
        torn.write(b"1 0123456789ab")
    journal = Journal(file)
    assert journal.find(0, "a.eml", 10) == "A"
    assert journal.find(1, "b.eml", 10) is None
    with pytest.raises(StartError, match="has changed"):
        journal.find(0, "other.eml", 10)
    journal.write(1, "b.eml", 10, "P")
    journal.close()
    journal = Journal(file)
    assert journal.find(1, "b.eml", 10) == "P"
    journal.close()


def test_what_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"dear diary\n")
    with pytest.raises(StartError, match="not a journal"):
        Journal(tmp_path / "x")

    assert (tmp_path / "x").read_bytes() == b"dear diary\n"
