"""What rules decide: their order, what they ask for, and what happens when there is no answer."""

import base64
import threading
import time
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from relay.errors import StoreUnavailable
from relay.policy import Decision
from relay.policy.contents import MAX_HEAD, MAX_VALUE
from relay.scan.inquiry import Scan, ScanFailed
from tests.kit.rules import HEAD, Engine, Letter, make_mixed, make_policy, read_config

_NAMES = {"attachment_names": ["*.exe"]}
_INFECTED = {"scanner": "virus", "results": ["infected"]}
_PROGRAM = ("application/octet-stream", "a.exe")


async def _decide(letter: Letter, *rules: dict[str, Any], **engines: Engine) -> Decision:
    return await make_policy(read_config(*rules), **engines).decide(letter.facts)


def _name(decision: Decision) -> str:
    return decision.rule.name if decision.rule is not None else ""


# -- the first rule that holds


async def test_without_rules_a_message_is_accepted_as_it_is() -> None:
    assert await _decide(Letter()) == Decision(None, "accept", "", {})


async def test_first_rule_that_holds_decides() -> None:
    decision = await _decide(
        Letter(),
        {"senders": ["x@acme.example"], "action": "reject"},
        {"senders": ["*@acme.example"], "action": "hold"},
        {"action": "reject"},
    )

    assert (_name(decision), decision.action) == ("rule1", "hold")
    assert decision.reason == "senders"


async def test_reason_names_the_conditions_and_nothing_of_the_message() -> None:
    rule = {
        "tenants": ["acme"],
        "recipients_over": 0,
        "header": [{"name": "Subject", "pattern": "he.lo"}],
        "attachment_types": ["application/*"],
        **_NAMES,
        **_INFECTED,
    }
    decision = await _decide(
        Letter(*make_mixed(_PROGRAM)), rule, virus=Engine(Scan("infected", details="Eicar"))
    )

    assert decision.reason == (
        "tenants, recipients_over, header Subject, attachment_types, attachment_names, "
        "scanner virus: infected"
    )


async def test_rule_without_conditions_says_so() -> None:
    assert (await _decide(Letter(), {"action": "hold"})).reason == "no conditions"


@pytest.mark.parametrize(
    ("rules", "concerned"),
    [
        ([], set()),
        ([{"tenants": ["acme"]}], {"acme"}),
        ([{"tenants": ["acme"]}, {"senders": ["a@acme.example"]}], {"acme", "other"}),
    ],
)
def test_tenants_that_no_rule_is_about_are_not_concerned(
    rules: list[dict[str, Any]], concerned: set[str]
) -> None:
    policy = make_policy(read_config(*rules))

    assert {name for name in ("acme", "other") if policy.concerns(name)} == concerned


# -- nothing is done before it is needed


@pytest.mark.parametrize(
    "outside",
    [
        {"tenants": ["other"]},
        {"senders": ["b@acme.example"]},
        {"recipient_domains": ["here.example"]},
        {"larger_than": 100_000},
        {"recipients_over": 1},
        {"header": [{"name": "X-Missing"}]},
        {"header": [{"name": "Subject", "pattern": "bye"}]},
    ],
)
async def test_message_is_not_read_when_a_cheaper_condition_does_not_hold(
    outside: dict[str, Any],
) -> None:
    letter, engine = Letter(), Engine(Scan("infected"))

    decision = await _decide(
        letter, {**outside, **_NAMES, "attachment_types": ["text/plain"], **_INFECTED}, virus=engine
    )

    assert decision.rule is None
    assert letter.reads == 0
    assert not engine.asked


async def test_head_is_not_looked_at_for_what_is_on_the_envelope() -> None:
    letter = Letter(HEAD + b"X: " + bytes(MAX_HEAD))

    decision = await _decide(
        letter,
        {"tenants": ["other"], "header": [{"name": "X-A"}], "on_error": "reject"},
        {"senders": ["*@acme.example"]},
    )

    assert _name(decision) == "rule1"


async def test_scanner_is_not_asked_when_a_part_does_not_fit() -> None:
    letter, engine = Letter(*make_mixed(("text/plain", "a.txt"))), Engine(Scan("infected"))

    assert (await _decide(letter, {**_NAMES, **_INFECTED}, virus=engine)).rule is None
    assert (letter.reads, engine.asked) == (1, [])


async def test_message_is_read_once_and_each_scanner_asked_once() -> None:
    letter, engine = Letter(*make_mixed(_PROGRAM)), Engine(Scan("clean"))

    decision = await _decide(
        letter,
        {**_NAMES, **_INFECTED},
        {"attachment_types": ["application/*"], **_INFECTED},
        {**_INFECTED},
        {"attachment_names": ["a.*"], "scanner": "virus", "results": ["clean"]},
        virus=engine,
    )

    assert _name(decision) == "rule3"
    assert (letter.reads, len(engine.asked)) == (1, 1)


async def test_trouble_of_reading_comes_out() -> None:
    async def fail() -> bytes:
        raise StoreUnavailable("gone", executed=False)

    letter = Letter()
    letter.facts.read = fail

    with pytest.raises(StoreUnavailable):
        await _decide(letter, _NAMES)


# -- what cannot be taken apart

_TOO_LONG = HEAD + b"X-Long: " + b"x" * MAX_HEAD + b"\r\n"
_LONG_VALUE = HEAD + b"X-A: " + b"x" * (MAX_VALUE + 1) + b"\r\n"


def _nest(depth: int) -> tuple[bytes, bytes]:
    body = b"Content-Type: text/plain\r\n\r\nx\r\n"
    for number in range(depth):
        body = (
            b'Content-Type: multipart/mixed; boundary="=%d"\r\n\r\n--=%d\r\n%b\r\n--=%d--\r\n'
            % (number, number, body, number)
        )
    head, _, rest = body.partition(b"\r\n\r\n")
    return HEAD + b"MIME-Version: 1.0\r\n" + head + b"\r\n", rest


_BROKEN_ZIP = (
    HEAD + b"MIME-Version: 1.0\r\nContent-Type: application/zip; name=a.zip\r\n"
    b"Content-Transfer-Encoding: base64\r\n",
    base64.encodebytes(b"PK\x03\x04" + b"x" * 60).replace(b"\n", b"\r\n"),
)
_UNREADABLE = [
    (Letter(_TOO_LONG), {"header": [{"name": "X-A"}]}, "header X-A: not readable: its head has "),
    (Letter(_LONG_VALUE), {"header": [{"name": "X-A", "pattern": "y"}]}, "header X-A: not readable: "),
    (Letter(*_nest(40)), _NAMES, "attachment_names: not readable: "),
    (Letter(*_nest(40)), {"attachment_types": ["image/png"]}, "attachment_types: not readable: "),
    (Letter(*_BROKEN_ZIP), _NAMES, "attachment_names: not readable: "),
]  # fmt: skip
_each_unreadable = pytest.mark.parametrize(
    ("letter", "condition", "why"), _UNREADABLE, ids=["head", "value", "names", "types", "zip"]
)


@_each_unreadable
@pytest.mark.parametrize("on_error", ["defer", "reject", "hold"])
async def test_what_cannot_be_read_is_treated_as_the_rule_says(
    letter: Letter, condition: dict[str, Any], why: str, on_error: str
) -> None:
    decision = await _decide(letter, {**condition, "on_error": on_error, **_INFECTED}, {})

    assert (_name(decision), decision.action) == ("rule0", on_error)
    assert decision.reason.startswith(why)


@_each_unreadable
async def test_what_cannot_be_read_may_count_as_fitting(
    letter: Letter, condition: dict[str, Any], why: str
) -> None:
    rule = {**condition, "on_error": "match", "action": "reject"}
    decision = await _decide(letter, rule)

    assert (_name(decision), decision.action) == ("rule0", "reject")
    assert decision.reason.startswith(why)


@_each_unreadable
async def test_what_cannot_be_read_may_count_as_not_fitting(
    letter: Letter, condition: dict[str, Any], why: str
) -> None:
    decision = await _decide(letter, {**condition, "on_error": "skip", "action": "reject"})

    assert (decision.rule, decision.action) == (None, "accept")
    assert decision.reason.startswith(f"rule0 is skipped: {why}")


async def test_next_rule_hears_the_same_of_what_cannot_be_read() -> None:
    letter = Letter(*_nest(40))

    decision = await _decide(
        letter, {**_NAMES, "on_error": "skip"}, {**_NAMES, "on_error": "hold", "action": "reject"}
    )

    assert (_name(decision), decision.action) == ("rule1", "hold")
    assert letter.reads == 1
    assert "; rule0 is skipped: attachment_names: not readable: " in decision.reason


async def test_what_counts_as_fitting_still_goes_to_the_scanner() -> None:
    engine = Engine(Scan("clean"))

    rule = {**_NAMES, "on_error": "match", **_INFECTED, "action": "reject"}
    decision = await _decide(Letter(*_nest(40)), rule, virus=engine)

    assert decision.rule is None
    assert len(engine.asked) == 1


# -- scanners


@pytest.mark.parametrize(
    ("scan", "rule", "held"),
    [
        (Scan("infected"), {"results": ["infected"]}, "infected"),
        (Scan("clean"), {"results": ["infected"]}, ""),
        (Scan("add header", 7.5), {"results": ["Reject", "Add header"]}, "add header (7.5)"),
        (Scan("no action", 7.5), {"score": 7.5}, "no action (7.5)"),
        (Scan("no action", 7.4), {"score": 7.5}, ""),
        (Scan("no action", -2.0), {"score": -3}, "no action (-2)"),
        (Scan("reject", 1.0), {"score": 7.5, "results": ["reject"]}, "reject (1)"),
        (Scan("greylist", 9.0), {"score": 7.5, "results": ["reject"]}, "greylist (9)"),
        (Scan("greylist", None), {"score": 7.5}, ""),
    ],
)
async def test_scanner_says_a_result_or_a_score(
    scan: Scan, rule: dict[str, Any], held: str
) -> None:
    rule = {"scanner": "spam", "action": "hold", **rule}
    decision = await _decide(Letter(), rule, spam=Engine(scan))

    assert (_name(decision), decision.action) == (("rule0", "hold") if held else ("", "accept"))
    assert decision.reason == (f"scanner spam: {held}" if held else "")
    assert decision.scans == {"spam": scan}


async def test_scanner_hears_what_is_known_of_the_message() -> None:
    letter, engine = Letter(), Engine(Scan("clean"))

    await _decide(letter, _INFECTED, virus=engine)

    (inquiry,) = engine.asked
    assert (inquiry.message, inquiry.sender) == (letter.octets, b"a@acme.example")
    assert inquiry.recipients == (b"b@there.example",)
    assert (inquiry.client, inquiry.hello) == ("192.0.2.1", "mail.acme.example")
    assert inquiry.message_id == "M1"


async def test_message_waits_for_a_scanner_that_is_away_where_that_is_said() -> None:
    engine = Engine(ScanFailed("refused"))

    decision = await _decide(
        Letter(), {**_INFECTED, "action": "reject"}, {"action": "hold"}, virus=engine
    )

    assert (_name(decision), decision.action) == ("rule0", "defer")
    assert decision.reason == "scanner virus (127.0.0.1:3310): refused"
    assert decision.scans == {}


async def test_message_does_not_wait_for_a_scanner_that_is_away_where_that_is_said() -> None:
    engine = Engine(ScanFailed("refused"))
    rule = {"scanner": "spam", "score": 5, "action": "reject"}

    decision = await _decide(Letter(), rule, rule, {"action": "hold"}, spam=engine)

    assert (_name(decision), decision.action) == ("rule2", "hold")
    assert decision.reason == (
        "no conditions; rule0 is skipped: scanner spam (127.0.0.1:11333): refused; "
        "rule1 is skipped: scanner spam (127.0.0.1:11333): refused"
    )
    assert len(engine.asked) == 1


async def test_scanner_that_is_away_is_noted_when_nothing_else_holds() -> None:
    rule = {"scanner": "spam", "score": 5, "action": "reject"}

    decision = await _decide(Letter(), rule, spam=Engine(ScanFailed("refused")))

    assert (decision.rule, decision.action) == (None, "accept")
    assert "refused" in decision.reason


# -- time


async def test_decision_that_takes_too_long_is_put_off(autojump_clock: MockClock) -> None:
    async def stall() -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    letter = Letter()
    letter.facts.read = stall

    decision = await _decide(letter, {**_NAMES, "action": "reject", "on_error": "skip"})

    assert (_name(decision), decision.action) == ("rule0", "defer")
    assert decision.reason == "not decided within 60 s"
    assert trio.current_time() == pytest.approx(60)


async def test_scanners_have_their_own_time(autojump_clock: MockClock) -> None:
    decision = await _decide(Letter(), _INFECTED, virus=Engine())

    assert decision.action == "defer"
    assert decision.reason == "scanner virus (127.0.0.1:3310): no answer within 20 s"


async def test_who_is_cancelled_hears_of_it(autojump_clock: MockClock) -> None:
    with trio.move_on_after(5) as scope:
        await _decide(Letter(), _INFECTED, virus=Engine())

    assert scope.cancelled_caught


async def test_loop_runs_while_a_large_message_is_taken_apart() -> None:
    letter = Letter(*make_mixed(*[("text/plain", f"{'n' * 40}{n}.txt") for n in range(900)]))
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            start = trio.current_time()
            await trio.sleep(0.001)
            longest = max(longest, trio.current_time() - start)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        for _ in range(10):
            assert (await _decide(letter, _NAMES)).rule is None
        nursery.cancel_scope.cancel()

    assert longest < 0.5


async def test_large_messages_take_two_threads_and_no_more() -> None:
    letter = Letter(*make_mixed(*[("text/plain", f"{n}.txt") for n in range(900)]))
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            # trio names a thread after what it runs.
            names = [thread.name for thread in threading.enumerate()]
            most = max(most, sum(name.startswith("read_") for name in names))
            await trio.sleep(0.001)

    policy = make_policy(read_config(_NAMES))
    async with trio.open_nursery() as watching:
        watching.start_soon(watch)
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(policy.decide, letter.facts)
        watching.cancel_scope.cancel()

    assert most == 2


async def test_others_have_their_turn_while_thousands_of_rules_are_asked() -> None:
    rule = {"header": [{"name": "Subject", "pattern": "bye"}]}
    policy = make_policy(read_config(*[rule] * 1000))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        assert (await policy.decide(Letter().facts)).rule is None
        nursery.cancel_scope.cancel()

    assert turns >= 9


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", r"^(([a-z])+.)+[A-Z]([a-z])+$"])
async def test_header_cannot_make_a_pattern_search_for_ever(pattern: str) -> None:
    letter = Letter(HEAD + b"X-A: " + b"a" * (MAX_VALUE - 10) + b"!\r\n")
    start = time.perf_counter()

    await _decide(letter, {"header": [{"name": "X-A", "pattern": pattern}]})

    assert time.perf_counter() - start < 5
