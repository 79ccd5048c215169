"""Sources that fail a check are suspended by us, and nobody else's suspension is touched."""

import pytest

from relay.store.link import Link
from relay.store.suspension import Suspension, Suspensions
from workers.doctor.finding import Finding, Level
from workers.doctor.gate import Gate


@pytest.fixture
def suspensions(link: Link) -> Suspensions:
    return Suspensions(link)


@pytest.fixture
def gate(suspensions: Suspensions) -> Gate:
    return Gate(["ptr", "dnsbl"], 3600, suspensions)


def find(check: str, level: Level, text: str = "so") -> Finding:
    return Finding(check, "a (127.0.0.11)", level, text, source="a")


LISTED = find("dnsbl", "error", "listed on bl.test")
CLEAR = find("dnsbl", "ok")
SILENT = find("dnsbl", "skipped")
NAMED = find("ptr", "ok")


async def test_it_is_suspended_for_two_looks_renewed_and_lifted(
    gate: Gate, suspensions: Suspensions
) -> None:
    now = await suspensions.read_clock()
    assert await gate.apply("a", [LISTED, NAMED]) == "suspended"
    (first,) = await suspensions.read()
    assert (first.name, first.who) == ("source=a", "doctor")
    assert first.why == "dnsbl: listed on bl.test"
    assert first.until is not None
    assert 7200 <= first.until - now < 7260

    assert await gate.apply("a", [LISTED]) == ""
    (second,) = await suspensions.read()
    assert second.until is not None
    assert second.until > first.until
    assert second.since == first.since

    assert await gate.apply("a", [CLEAR, NAMED]) == "resumed"
    assert await suspensions.read() == []
    assert await gate.apply("a", [CLEAR, NAMED]) == ""


@pytest.mark.parametrize(
    "findings",
    [
        [],
        [find("dnsbl", "warning"), find("ptr", "notice")],
        [find("spf", "error"), find("ehlo", "error")],  # not of the gate
        [SILENT, find("ptr", "skipped")],
    ],
)
async def test_what_does_not_suspend(
    gate: Gate, suspensions: Suspensions, findings: list[Finding]
) -> None:
    assert await gate.apply("a", findings) == ""
    assert await suspensions.read() == []


async def test_when_nobody_could_tell_nothing_changes(gate: Gate, suspensions: Suspensions) -> None:
    await gate.apply("a", [LISTED])
    before = await suspensions.read()

    assert await gate.apply("a", [SILENT, NAMED]) == ""
    assert await suspensions.read() == before


@pytest.mark.parametrize("until", [None, 4_000_000_000.0])
async def test_an_operator_goes_first(
    gate: Gate, suspensions: Suspensions, until: float | None
) -> None:
    theirs = Suspension(source="a", who="ann", why="moving", until=until)
    await suspensions.suspend(theirs)

    assert await gate.apply("a", [LISTED]) == ""
    assert await suspensions.read() == [theirs]
    assert await gate.apply("a", [CLEAR, NAMED]) == ""
    assert await suspensions.read() == [theirs]


async def test_other_suspensions_are_none_of_its_business(
    gate: Gate, suspensions: Suspensions
) -> None:
    others = [
        Suspension(source="a", site="google", who="doctor"),
        Suspension(source="b", who="doctor"),
        Suspension(tenant="acme", who="doctor"),
    ]
    for one in others:
        await suspensions.suspend(one)

    assert await gate.apply("a", [CLEAR]) == ""
    assert len(await suspensions.read()) == 3


async def test_without_the_check_in_the_gate_it_is_lifted(suspensions: Suspensions) -> None:
    await Gate(["dnsbl"], 60, suspensions).apply("a", [LISTED])

    assert await Gate([], 60, suspensions).apply("a", [LISTED]) == "resumed"
    assert await suspensions.read() == []
