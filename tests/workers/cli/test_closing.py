"""The account at the end, as people and as programs read it."""

import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from workers.cli.closing import Result, print_next_steps, print_result, to_json
from workers.cli.progress import SourceCount
from workers.emulation.behaviour import Behaviour, make_plain
from workers.emulation.books import Books
from workers.emulation.corpus import GeneratedCorpus
from workers.emulation.premises import make_premises
from workers.emulation.receiver import Receiver
from workers.emulation.sender import Sender, Sent

LEDGER = {"accepted": 3, "delivered": 2, "bounced": 1, "queued": 0, "unknown": 1}
NOTICES = {"accepted": 1, "delivered": 1, "bounced": 0, "queued": 0, "unknown": 0}


@pytest.fixture(scope="module")
def receivers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Receiver, ...]:
    context = make_premises(tmp_path_factory.mktemp("demo")).receiver_context
    made = (
        Receiver(("good.test",), Behaviour(), context),
        Receiver(("plain.test",), make_plain(), context),
    )
    for receiver in made:
        receiver.close()
    return made


@pytest.fixture
def result(receivers: tuple[Receiver, ...]) -> Iterator[Result]:
    sender = Sender(GeneratedCorpus(1, 2), 1, "x", receivers[0].context)
    sender.sent.append(Sent(0, "ID0", b"m0@acme.test", (b"a@good.test",), b""))
    yield Result(
        books=Books(messages=2, accepted=3, delivered=2, bounced=1, copies=2, transactions=2),
        ledger=LEDGER,
        notices=NOTICES,
        sender=sender,
        sources=(SourceCount("a", "127.0.0.11", 5, 6), SourceCount("b", "127.0.0.12", 5, 4)),
        misplaced={},
        receivers=receivers,
        sending=1.5,
        emptying=2.5,
        left_out=Counter({"has a NUL": 2}),
        own_corpus=True,
    )
    for receiver in receivers:
        receiver.inbox.messages = 0


def show(result: Result, *, kept: Path | None = None) -> str:
    console = Console(file=io.StringIO(), width=80)
    print_result(console, result, result.find_problems())
    print_next_steps(console, result, kept)
    return console.file.getvalue()


def test_books_that_close(result: Result) -> None:
    text = show(result)

    assert result.find_problems() == []
    assert "The books close: nothing was lost." in text
    assert "a 60.0% (weight 50%), b 40.0% (weight 50%)" in text
    assert "2 files: has a NUL" in text
    assert "…" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80


def test_books_that_do_not_close_say_why(result: Result) -> None:
    result.books.lost.append((b"m1@acme.test", b"b@good.test"))

    text = show(result)

    assert "neither delivered nor bounced" in text
    assert "The books do not close." in text


def test_mail_in_clear_to_a_receiver_with_tls_is_a_problem(result: Result) -> None:
    for receiver in result.receivers:  # plain.test has no TLS: that is as configured
        receiver.inbox.messages = 1

    assert result.find_problems() == ["1 messages reached good.test in clear"]


def test_a_wrong_source_address_is_a_problem(result: Result) -> None:
    strayed = replace(result, misplaced={"a": {"127.0.0.1"}})

    assert strayed.find_problems() == ["source a also sent from 127.0.0.1"]


def test_refusals_count_against_our_own_corpus_only(result: Result) -> None:
    result.sender.refused["550 5.6.0 no"] = 1

    assert result.find_problems() == ["1 of our own messages were refused: 550 5.6.0 no"]
    assert replace(result, own_corpus=False).find_problems() == []
    assert "1 messages: 550 5.6.0 no" in show(result)


def test_what_was_kept_can_be_looked_into(result: Result) -> None:
    text = show(result, kept=Path("/kept"))

    assert "explain -c /kept/outgate.toml ID0" in text


def test_programs_get_the_same(result: Result) -> None:
    document = json.loads(json.dumps(to_json(result, ["bad"], None)))

    assert document["ok"] is False
    assert document["ledger"] == LEDGER
    assert document["books"]["lost"] == 0
    assert document["receivers"]["good.test"]["messages"] == 0
    assert document["kept"] is None
