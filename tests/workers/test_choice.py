import json
from pathlib import Path

import trio

from relay.config import read
from relay.model import Claim, Delivery, Envelope, Recipient
from workers.choice import Choice

_CONFIG = read(
    {
        "source": [{"name": n, "address": "127.0.0.1", "ehlo": "gw.example"} for n in "abc"],
        "pool": {"default": {"a": 2, "b": 1, "c": 1}, "other": {"c": 1}},
        "ingress": {"hostname": "gw.example"},
    },
    base=Path(),
    environment={},
)


def make_claim(**last: object) -> Claim:
    envelope = Envelope(b"s@acme.example", (Recipient(b"r@b.test"),))
    delivery = Delivery("M.0", "M", "acme", "default", "b.test", envelope, 1, 1, 0.0, 0, alone=True)
    previous = json.dumps(last).encode() if last else b""
    return Claim(delivery, 0, "t", 1 if last else 0, b"", previous)


def last(source: str, code: int, command: str = "RCPT", blame: str = "session") -> Claim:
    person = {"address": "r@b.test", "code": code, "command": command, "blame": blame, "text": ""}
    return make_claim(event="deferred", source=source, recipients=[person])


def choose(choice: Choice, claim: Claim, times: int) -> str:
    sources = [choice.choose(claim, "default") for _ in range(times)]
    return "".join(source.name if source else "-" for source in sources)


async def test_first_attempts_rotate_by_weight() -> None:
    assert sorted(choose(Choice(_CONFIG, _CONFIG.source), make_claim(), 8)) == list("aaaabbcc")


async def test_greylisting_keeps_the_source() -> None:
    assert choose(Choice(_CONFIG, _CONFIG.source), last("b", 451), 5) == "bbbbb"


async def test_a_refused_source_is_not_tried_again() -> None:
    choice = Choice(_CONFIG, _CONFIG.source)

    assert "a" not in choose(choice, last("a", 450, blame="source"), 6)


async def test_a_refused_source_is_tried_again_when_there_is_no_other() -> None:
    choice = Choice(_CONFIG, [s for s in _CONFIG.source if s.name == "a"])

    assert choose(choice, last("a", 450, blame="source"), 2) == "aa"


async def test_no_connection_and_421_rotate() -> None:
    choice = Choice(_CONFIG, _CONFIG.source)

    assert len(set(choose(choice, last("b", 0, "CONNECT", "host"), 4))) == 3
    assert len(set(choose(choice, last("b", 421, "MAIL"), 4))) == 3


async def test_an_unreadable_event_rotates() -> None:
    choice = Choice(_CONFIG, _CONFIG.source)
    claim = make_claim(source=5)

    assert len(set(choose(choice, claim, 4))) == 3


async def test_a_resting_source_is_passed_over_and_comes_back(autojump_clock: object) -> None:
    choice = Choice(_CONFIG, _CONFIG.source)
    a = _CONFIG.source[0]

    assert choice.rest(a) == 60
    assert choice.rest(a) is None  # said once
    assert "a" not in choose(choice, make_claim(), 8)
    assert "a" not in choose(choice, last("a", 451), 4)
    await trio.sleep(61)
    assert "a" in choose(choice, make_claim(), 4)


async def test_a_pool_whose_sources_all_rest_cannot_send() -> None:
    choice = Choice(_CONFIG, _CONFIG.source)

    choice.rest(_CONFIG.source[2])

    assert choice.can_send("default")
    assert not choice.can_send("other")
    assert choice.choose(make_claim(), "other") is None


async def test_pools_without_our_sources_are_not_ours() -> None:
    choice = Choice(_CONFIG, [s for s in _CONFIG.source if s.name == "a"])

    assert choice.pools == ("default",)
    assert choice.choose(make_claim(), "other") is None
