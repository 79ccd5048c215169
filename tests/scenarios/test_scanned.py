"""clamd and rspamd before the 250: what they find is refused or held, and what happens without them.

A scanner that is killed costs nobody a message: with ``on_failure = "defer"`` senders are asked to
come back, with "accept" the rule is passed over, and the message's own event says so.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

import tests.kit.clamd
import tests.kit.rspamd
from tests.kit.audit import assert_sound
from tests.kit.clamd import MARKER, Clamd
from tests.kit.console import Console, wait_until
from tests.kit.gateway import Gateway
from tests.kit.letters import Traffic, insist, make_letter, post
from tests.kit.rspamd import GTUBE, SPAM, Rspamd
from tests.kit.shelf import Shelf

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(tests.kit.clamd.find_obstacle() or tests.kit.rspamd.find_obstacle()),
        reason=f"{tests.kit.clamd.find_obstacle() or ''} {tests.kit.rspamd.find_obstacle() or ''}",
    ),
]

TEXT = "There is a virus in your message, ask the help desk"
FRIEND = "friend@acme.example"  # whose mail need not wait for a scanner
TABLES = """\
[[scanner]]
name = "av"
kind = "clamd"
address = "{clamd}"
timeout = "2s"
[[scanner]]
name = "lenient"
kind = "clamd"
address = "{clamd}"
timeout = "2s"
on_failure = "accept"
[[scanner]]
name = "spam"
kind = "rspamd"
address = "{rspamd}"
[[rule]]
name = "hold-spam"
scanner = "spam"
results = ["reject"]
action = "hold"
[[rule]]
name = "no-viruses-of-friends"
senders = ["{friend}"]
scanner = "lenient"
results = ["infected"]
action = "reject"
text = "{text}"
[[rule]]
name = "no-viruses"
senders = ["sender@acme.example"]
scanner = "av"
results = ["infected"]
action = "reject"
text = "{text}"
"""


@dataclass
class Place:
    """A gateway, its scanners, and where its mail goes."""

    gateway: Gateway
    console: Console
    shelf: Shelf
    clamd: Clamd
    rspamd: Rspamd

    def __post_init__(self) -> None:
        self.accepted = 0  # recipients, so far

    @property
    def port(self) -> int:
        return self.gateway.port

    def wait_for(self, *marks: str) -> None:
        wait_until(lambda: all(self.shelf.messages[mark] for mark in marks), f"{marks} arrive")

    def check_ledger(self, more: int) -> None:
        """So many recipients more, and all of them have it."""
        self.accepted += more
        ledger = self.gateway.wait_ledger(self.accepted)
        assert ledger.is_closed, (ledger, self.gateway.read_output())
        assert (ledger.accepted, ledger.delivered) == (self.accepted, self.accepted)
        with self.console.open_store() as client:
            assert_sound(client)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with Shelf() as shelf, Clamd() as clamd, Rspamd() as rspamd:
        tables = TABLES.format(clamd=clamd.unix, rspamd=rspamd.tcp, text=TEXT, friend=FRIEND)
        with Gateway({"*.load.test": shelf.port}, tables=tables) as gateway:
            yield Place(gateway, Console(gateway), shelf, clamd, rspamd)


def test_what_is_found_is_refused_or_held(place: Place) -> None:
    clean = make_letter("clean")
    assert post(place.port, clean, "r@d.load.test").code == 250

    infected = post(place.port, make_letter("infected", MARKER + b"\r\n"), "r@d.load.test")
    assert (infected.code, infected.text) == (550, f"5.7.1 {TEXT}")
    # Of what only looks like spam no rule speaks.
    assert post(place.port, make_letter("dubious", SPAM + b"\r\n"), "r@d.load.test").code == 250
    # Large ones go through the store in parts, and are shown whole.
    large = b"filling, filling\r\n" * 20_000 + MARKER + b"\r\n"
    assert post(place.port, make_letter("large", large), "r@d.load.test").code == 550

    place.wait_for("clean", "dubious")
    assert not place.shelf.messages.keys() & {"infected", "large"}
    assert place.shelf.messages["clean"][0].sent == clean
    # What had to wait for its end is in nobody's memory, and in no ledger.
    place.check_ledger(2)
    refused = place.console.wait_for_events("refused", count=2)
    assert {event["rule"] for event in refused} == {"no-viruses"}
    assert all("scanner av: infected" in event["reason"] for event in refused)
    (dubious,) = [e for e in place.console.read_events("accepted") if "reason" not in e][1:]
    assert dubious["scans"]["spam"]["result"] == "add header"
    assert dubious["scans"]["av"]["result"] == "clean"


def test_what_is_held_waits_for_an_operator(place: Place) -> None:
    held = make_letter("held", GTUBE + b"\r\n")  # rspamd looks for it in small parts
    answer = post(place.port, held, "r@d.load.test", "s@e.load.test")
    assert answer.code == 250
    assert post(place.port, make_letter("other"), "r@d.load.test").code == 250
    place.wait_for("other")  # it does not stand in others' way

    told = place.console.call("explain", answer.id)
    assert told.status == 0
    assert "held by rule hold-spam" in told.out
    assert "scanner spam: reject" in told.out
    listed = place.console.ask("queues")["queues"]
    assert {(row["domain"], row["due"], row["why"]) for row in listed} == {
        ("d.load.test", 1, "held"),
        ("e.load.test", 1, "held"),
    }
    assert all(f"{answer.id}: held by rule hold-spam" in row["text"] for row in listed)
    assert place.shelf.messages["held"] == []

    done = place.console.ask("retry", "--id", answer.id, "--why", "it is a newsletter")
    assert done["deliveries"] == 2
    wait_until(lambda: len(place.shelf.messages["held"]) == 2, "what was held arrives")
    assert [taken.sent for taken in place.shelf.messages["held"]] == [held, held]
    people = {person for taken in place.shelf.messages["held"] for person in taken.recipients}
    assert people == {"r@d.load.test", "s@e.load.test"}
    place.check_ledger(3)
    (retried,) = place.console.read_events("retried")
    assert (retried["who"][:4], retried["why"]) == ("ann@", "it is a newsletter")


def test_scanner_that_is_killed(place: Place) -> None:
    console, clamd = place.console, place.clamd
    with Traffic(place.port, ["d.load.test", "e.load.test"]) as traffic:
        traffic.wait(20)
        clamd.crash()
        before = len(traffic.promised)
        wait_until(lambda: traffic.answers[451] >= 20, "senders are asked to come back")
        # Those that were on their way.
        assert len(traffic.promised) <= before + 4
        (down,) = console.wait_for_events("scanner-down")
        assert down["name"] == "av"
        # Whose rule can do without is not kept waiting; and what is found, is found by others.
        friendly = post(place.port, make_letter("friendly"), "r@d.load.test", sender=FRIEND)
        clamd.start()
        traffic.wait(20)
    assert set(traffic.answers) == {451}
    (up,) = console.wait_for_events("scanner-up")
    assert up["name"] == "av"
    assert {event["rule"] for event in console.read_events("postponed")} == {"no-viruses"}

    (noted,) = [e for e in console.read_events("accepted") if e["id"] == friendly.id]
    assert "no-viruses-of-friends is skipped: scanner lenient" in noted["reason"]
    assert "is skipped" in console.call("explain", friendly.id).out
    promised = sum(len(promise.people) for promise in traffic.promised.values())
    assert not traffic.unknown
    place.check_ledger(promised + 1)
    for mark, promise in traffic.promised.items():
        assert {taken.sent for taken in place.shelf.messages[mark]} == {promise.octets}
        assert len(place.shelf.messages[mark]) == len(promise.people)
    infected = post(place.port, make_letter("infected", MARKER), "r@d.load.test")
    assert infected.code == 550


def test_scanner_that_hangs(place: Place) -> None:
    """It takes connections and says nothing: the first wait, the others hear at once."""
    place.clamd.freeze()
    with ThreadPoolExecutor(8) as pool:
        letters = [make_letter(f"early-{number}") for number in range(8)]
        early = list(pool.map(lambda letter: post(place.port, letter, "r@d.load.test"), letters))
    assert {answer.code for answer in early} == {451}
    began = time.monotonic()
    assert post(place.port, make_letter("next"), "r@d.load.test").code == 451
    assert time.monotonic() - began < 1.5  # less than scanner.timeout
    place.clamd.thaw()
    _, others = insist(place.port, make_letter("late"), "r@d.load.test")
    assert set(others) <= {451}
    place.wait_for("late")
    place.check_ledger(1)
