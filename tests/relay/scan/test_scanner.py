import dataclasses

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from relay.config import Config, policy
from relay.errors import ConfigError
from relay.events import EventLog
from relay.scan.breaker import FAILURES
from relay.scan.inquiry import Inquiry, Scan, ScanFailed
from relay.scan.scanner import PLACES, Scanner, make_scanners
from tests.kit.clamd import Clamd
from tests.kit.rspamd import Rspamd
from tests.relay.scan.conftest import Make, ReadEvents

INQUIRY = Inquiry(b"Subject: x\r\n\r\nhello\r\n", b"", (b"b@example.test",), "192.0.2.1", "", "ID")
SETTINGS = policy.Scanner(name="virus", kind="clamd", address="127.0.0.1:1")


class Engine:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.gate = trio.Event()
        self.failure = ""
        self.asked = 0
        self.running = 0
        self.most = 0  # at a time

    async def ask(self, inquiry: Inquiry) -> Scan:
        self.asked += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
        finally:
            self.running -= 1
        if self.failure:
            raise ScanFailed(self.failure)
        return Scan("clean")

    async def aclose(self) -> None:
        pass


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def scanner(engine: Engine, events: EventLog) -> Scanner:
    return Scanner(SETTINGS, engine, events)


async def fail(scanner: Scanner, times: int = FAILURES) -> None:
    for _ in range(times):
        with pytest.raises(ScanFailed):
            await scanner.scan(INQUIRY)


# -- time


async def test_who_does_not_answer_is_given_up(
    scanner: Scanner, engine: Engine, autojump_clock: MockClock
) -> None:
    with pytest.raises(ScanFailed, match=r"virus \(127.0.0.1:1\): no answer within 20 s"):
        await scanner.scan(INQUIRY)

    assert trio.current_time() == 20
    assert engine.running == 0


async def test_so_many_at_a_time_and_the_others_wait(scanner: Scanner, engine: Engine) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(3 * PLACES):
            nursery.start_soon(scanner.scan, INQUIRY)
        await wait_all_tasks_blocked()
        assert engine.running == PLACES
        engine.gate.set()

    assert engine.asked == 3 * PLACES
    assert engine.most == PLACES


async def test_a_crowd_is_no_failure_of_the_scanner(
    scanner: Scanner, engine: Engine, read_events: ReadEvents, autojump_clock: MockClock
) -> None:
    said: list[str] = []

    async def scan() -> None:
        try:
            said.append((await scanner.scan(INQUIRY)).result)
        except ScanFailed as error:
            said.append(str(error).partition("): ")[2])

    async with trio.open_nursery() as nursery:
        for _ in range(2 * PLACES + 1):
            nursery.start_soon(scan)
        await trio.sleep(15)
        engine.gate.set()  # for the first ones; those who come after them have 5 s left
        engine.gate = trio.Event()

    assert trio.current_time() == 20
    assert said[:PLACES] == ["clean"] * PLACES
    assert sorted(said[PLACES:]) == [
        "busy: 8 other messages took longer than 20 s",
        *["no answer within 20 s"] * PLACES,
    ]
    engine.gate.set()
    await scanner.scan(INQUIRY)
    assert read_events() == []


async def test_places_are_given_back(
    scanner: Scanner, engine: Engine, autojump_clock: MockClock
) -> None:
    await fail(scanner, FAILURES - 1)  # time-outs
    for _ in range(PLACES):
        with trio.move_on_after(1):
            await scanner.scan(INQUIRY)
    engine.gate.set()
    async with trio.open_nursery() as nursery:
        for _ in range(PLACES):
            nursery.start_soon(scanner.scan, INQUIRY)

    assert engine.most == PLACES


async def test_our_time_out_is_not_the_callers(
    scanner: Scanner, engine: Engine, read_events: ReadEvents, autojump_clock: MockClock
) -> None:
    for _ in range(3 * FAILURES):  # senders that went away say nothing about the scanner
        with trio.move_on_after(1) as scope:
            await scanner.scan(INQUIRY)
        assert scope.cancelled_caught

    assert engine.asked == 3 * FAILURES
    assert read_events() == []


# -- size


async def test_what_is_too_large_is_not_shown(scanner: Scanner, engine: Engine) -> None:
    small = msgspec.structs.replace(SETTINGS, max_message=10)
    scanner._settings = small
    engine.gate.set()

    with pytest.raises(ScanFailed, match=r"11 octets are larger than scanner.max_message \(10\)"):
        await scanner.scan(dataclasses.replace(INQUIRY, message=b"x" * 11))
    assert engine.asked == 0
    await scanner.scan(dataclasses.replace(INQUIRY, message=b"x" * 10))


# -- the breaker


async def test_the_breaker_and_its_events(
    scanner: Scanner, engine: Engine, read_events: ReadEvents, autojump_clock: MockClock
) -> None:
    engine.gate.set()
    engine.failure = "out of order"
    await fail(scanner)
    assert engine.asked == FAILURES

    with pytest.raises(ScanFailed, match="not asked, because it does not work: out of order"):
        await scanner.scan(INQUIRY)
    assert engine.asked == FAILURES

    await trio.sleep(1)
    await fail(scanner, 2)  # one is let through
    assert engine.asked == FAILURES + 1
    await trio.sleep(1)
    await fail(scanner, 1)  # the pause is two seconds now
    assert engine.asked == FAILURES + 1

    engine.failure = ""
    await trio.sleep(1)
    await scanner.scan(INQUIRY)
    await scanner.scan(INQUIRY)

    down, up = read_events()
    assert (down["event"], down["name"]) == ("scanner-down", "virus")
    assert down["text"] == "127.0.0.1:1: out of order"
    assert (up["event"], up["name"]) == ("scanner-up", "virus")


async def test_eight_that_time_out_together_are_one_event(
    scanner: Scanner, engine: Engine, read_events: ReadEvents, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(2 * PLACES):  # those who waited are turned away, or out of time
            nursery.start_soon(fail, scanner, 1)

    assert trio.current_time() == 20
    assert engine.asked == PLACES
    engine.gate.set()
    await trio.sleep(1)
    await scanner.scan(INQUIRY)
    assert [event["event"] for event in read_events()] == ["scanner-down", "scanner-up"]


async def test_nobody_waits_for_a_place_while_it_is_open(
    scanner: Scanner, engine: Engine, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(PLACES - 1):  # they hang, and go on to hang
            nursery.start_soon(scanner.scan, INQUIRY)
        await wait_all_tasks_blocked()
        engine.gate = trio.Event()
        engine.gate.set()
        engine.failure = "out of order"
        await fail(scanner)
        await trio.sleep(1)
        engine.gate = trio.Event()
        nursery.start_soon(scanner.scan, INQUIRY)  # the trial has the last place
        await wait_all_tasks_blocked()

        with pytest.raises(ScanFailed, match="not asked"):
            await scanner.scan(INQUIRY)
        assert trio.current_time() == 1
        nursery.cancel_scope.cancel()


async def test_a_trial_that_is_given_up_leaves_the_next_to_the_next(
    scanner: Scanner, engine: Engine, autojump_clock: MockClock
) -> None:
    engine.gate.set()
    engine.failure = "out of order"
    await fail(scanner)
    await trio.sleep(1)
    engine.failure = ""
    engine.gate = trio.Event()
    with trio.move_on_after(1):
        await scanner.scan(INQUIRY)
    engine.gate.set()

    assert (await scanner.scan(INQUIRY)).result == "clean"


# -- with the daemons

Daemon = Clamd | Rspamd
GOOD = {"clamd": "clean", "rspamd": "no action"}
each_kind = pytest.mark.parametrize("kind", ["clamd", "rspamd"])
each_place = pytest.mark.parametrize("place", ["tcp", "unix"])


@pytest.fixture
def daemon(kind: str, request: pytest.FixtureRequest) -> Daemon:
    found: Daemon = request.getfixturevalue(f"{kind}_program")
    return found


@each_kind
@each_place
async def test_killed_and_back(
    daemon: Daemon,
    kind: str,
    place: str,
    make: Make,
    read_events: ReadEvents,
    mock_clock: MockClock,
) -> None:
    scanner = make(kind, getattr(daemon, place))
    assert (await scanner.scan(INQUIRY)).result == GOOD[kind]
    daemon.crash()
    await fail(scanner)
    with pytest.raises(ScanFailed, match="not asked"):
        await scanner.scan(INQUIRY)

    daemon.start()
    with pytest.raises(ScanFailed, match="not asked"):
        await scanner.scan(INQUIRY)
    mock_clock.jump(1)
    assert (await scanner.scan(INQUIRY)).result == GOOD[kind]

    assert [event["event"] for event in read_events()] == ["scanner-down", "scanner-up"]


@each_kind
@each_place
async def test_frozen_and_back(
    daemon: Daemon,
    kind: str,
    place: str,
    make: Make,
    read_events: ReadEvents,
    mock_clock: MockClock,
) -> None:
    scanner = make(kind, getattr(daemon, place))
    daemon.freeze()
    async with trio.open_nursery() as nursery:
        for _ in range(PLACES):
            nursery.start_soon(fail, scanner, 1)
        await wait_all_tasks_blocked(0.05)
        mock_clock.jump(20)
    with pytest.raises(ScanFailed, match=r"not asked.*no answer within 20 s"):
        await scanner.scan(INQUIRY)

    daemon.thaw()
    mock_clock.jump(1)
    assert (await scanner.scan(INQUIRY)).result == GOOD[kind]
    assert [event["event"] for event in read_events()] == ["scanner-down", "scanner-up"]


# -- the configuration


async def test_one_for_each_in_the_configuration(config: Config, events: EventLog) -> None:
    several = (
        SETTINGS,
        policy.Scanner(name="spam", kind="rspamd", address="[::1]:11333", on_failure="accept"),
    )

    scanners = make_scanners(msgspec.structs.replace(config, scanner=several), events)

    assert {name: one.on_failure for name, one in scanners.items()} == {
        "virus": "defer",
        "spam": "accept",
    }
    for one in scanners.values():
        await one.aclose()


@pytest.mark.parametrize("address", ["", "clamd", "unix:clamd.ctl", "127.0.0.1:0", "unix:"])
def test_a_bad_address_is_an_error_in_the_configuration(
    config: Config, events: EventLog, address: str
) -> None:
    bad = msgspec.structs.replace(SETTINGS, address=address)

    with pytest.raises(ConfigError, match="scanner 'virus': address: expected"):
        make_scanners(msgspec.structs.replace(config, scanner=(bad,)), events)
