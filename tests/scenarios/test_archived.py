"""What got its 250 is in the archive: also when the ingress dies under load, or the bucket is away.

Where the message is when the ingress is killed: before the archive has it, it is the sender's; behind
that it may be in the archive without having been accepted, which is allowed; and the store has it only
after the archive. So every message that the store accepted has its object, and a whole one.
"""

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

import tests.kit.s3
from relay.archive import Entry, open_copies
from relay.archive.archive import Copies
from relay.config import load
from tests.kit.archive import write_keys
from tests.kit.audit import assert_sound
from tests.kit.console import Console, read_story, wait_until
from tests.kit.family import wait_for_role
from tests.kit.gateway import Gateway
from tests.kit.letters import Traffic, insist, make_letter, post
from tests.kit.s3 import BUCKET, S3Server
from tests.kit.shelf import Shelf

pytestmark = [pytest.mark.slow, pytest.mark.heavy]

KILLS = 3
DOMAINS = [f"d{number}.load.test" for number in range(6)]
DELIVERY = 'processes = 1\nretry = ["1s"]\nidle = "1s"'
LARGE = 9  # each so many-th message goes through the store in parts


@dataclass(frozen=True)
class Kept:
    """An object of the archive."""

    entry: Entry
    message: bytes


def read_archive(gateway: Gateway) -> dict[str, Kept]:
    """Return every object, by message; fails for one that is not whole."""
    copies = open_copies(load(str(gateway.config)))
    assert copies is not None
    return trio.run(_read_all, copies)


async def _read_all(copies: Copies) -> dict[str, Kept]:
    found = {}
    for vault in copies.vaults:
        for day in await vault.list_days("acme"):
            for place in await vault.list_places("acme", day):
                got = await vault.read_message(place)  # raises when its digest is wrong
                assert got is not None
                assert got[0].entry is not None
                found[place.message_id] = Kept(got[0].entry, got[1])
    return found


def make_varied(mark: str) -> bytes:
    """Return a message; some are large."""
    is_large = int(mark.partition("-")[2]) % LARGE == 0
    return make_letter(mark, b"a line of many\r\n" * 9_000 if is_large else b"hello\r\n")


def check_kept(archive: dict[str, Kept], traffic: Traffic, shelf: Shelf) -> None:
    """What was promised is kept, envelope included, octet for octet as it was delivered."""
    for mark, promise in traffic.promised.items():
        kept = archive[promise.id]
        assert kept.entry.sender == "sender@acme.example"
        assert kept.entry.recipients == promise.people
        assert kept.entry.client == "127.0.0.1"
        assert kept.entry.hello == "client.test"
        assert {taken.octets for taken in shelf.messages[mark]} == {kept.message}, mark
        assert {taken.sent for taken in shelf.messages[mark]} == {promise.octets}


@pytest.fixture
def chance() -> random.Random:
    seed = os.environ.get("OUTGATE_SEED") or str(random.randrange(1 << 32))
    print(f"OUTGATE_SEED={seed}")  # noqa: T201 - pytest shows it when the test fails
    return random.Random(seed)


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    with Shelf() as shelf:
        yield shelf


def test_ingress_is_killed_under_load(shelf: Shelf, chance: random.Random, tmp_path: Path) -> None:
    tables = (
        f'[archive]\ndirectory = "archive"\nkey_file = "{write_keys(tmp_path / "keys")}"\n'
        'retention = "1s"\n'
    )
    with Gateway({"*.load.test": shelf.port}, delivery=DELIVERY, tables=tables) as gateway:
        console = Console(gateway)
        with Traffic(gateway.port, DOMAINS, make=make_varied, pause=0) as traffic:
            for _ in range(KILLS):
                traffic.wait(15)
                time.sleep(chance.random() * 0.3)
                (victim,) = wait_for_role(gateway.pid, "ingress", 1)
                os.kill(victim, signal.SIGKILL)
            traffic.wait(15)
        ledger = gateway.wait_ledger(1, seconds=30)
        assert ledger.is_closed, gateway.read_output()
        assert ledger.bounced == 0

        archive = read_archive(gateway)
        check_kept(archive, traffic, shelf)
        # Also what was accepted and never got its 250: whatever was delivered has an object.
        for mark, taken in shelf.messages.items():
            assert mark in traffic.promised or mark in traffic.unknown
            for one in taken:
                assert any(one.octets == kept.message for kept in archive.values()), mark
        with console.open_store() as client:
            assert_sound(client, leftover=True)
            accepted = {message_id for message_id in archive if read_story(client, message_id)}
            known = {key.decode().split(":")[2] for key in client.scan_iter("{og*}:story:*")}
        assert known == accepted
        spare = len(archive) - len(accepted)
        assert spare <= len(traffic.unknown)
        ids = {event["id"] for event in console.read_events("accepted")}
        assert ids <= accepted
        assert all(event["archived"] for event in console.read_events("accepted"))
        print(f"{len(archive)} kept, {spare} of them not accepted")  # noqa: T201
        check_commands(console, archive, traffic)


def check_commands(console: Console, archive: dict[str, Kept], traffic: Traffic) -> None:
    """Find, get, hold and purge, as an operator does it."""
    promise = next(one for one in traffic.promised.values() if len(one.octets) > 64 * 1024)
    found = console.call(
        "archive", "find", "--recipient", promise.people[0], "--limit", "0", "--json"
    )
    rows = [json.loads(line) for line in found.out.splitlines()]
    wanted = {i for i, kept in archive.items() if promise.people[0] in kept.entry.recipients}
    assert {row["id"] for row in rows} == wanted
    assert all(row["sealed"] for row in rows)

    got = console.call_raw("archive", "get", promise.id)
    assert (got.returncode, got.stdout) == (0, archive[promise.id].message)
    assert got.stdout.endswith(promise.octets)

    console.ask("archive", "hold", "--id", promise.id, "--why", "case 4711")
    time.sleep(1.1)  # archive.retention
    purged = console.ask("archive", "purge", "--why", "time is over")
    assert (purged["objects"], purged["held"]) == (len(archive) - 1, 1)
    left = console.call("archive", "find", "--limit", "0", "--json").out.splitlines()
    assert [json.loads(row)["id"] for row in left] == [promise.id]
    told = console.read_events("archive-held", "archive-purged")
    assert [event["event"] for event in told] == ["archive-held", "archive-purged"]
    assert all(event["who"].startswith("ann@") and event["why"] for event in told)


@pytest.mark.skipif(bool(tests.kit.s3.find_obstacle()), reason=tests.kit.s3.find_obstacle())
def test_bucket_that_is_away(shelf: Shelf, tmp_path: Path) -> None:
    bucket = S3Server()
    settings = bucket.settings(tmp_path)
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
    tables = f'[archive]\ntimeout = "1s"\n[archive.s3]\n{lines}'
    with Gateway({"*.load.test": shelf.port}, delivery=DELIVERY, tables=tables) as gateway:
        console = Console(gateway)
        # Nobody is there yet.
        assert post(gateway.port, make_letter("early"), "r@d0.load.test").code == 451
        with bucket:
            # Somebody is there, and has no such bucket.
            assert post(gateway.port, make_letter("early"), "r@d0.load.test").code == 451
            bucket.fresh()
            _, others = insist(gateway.port, make_letter("late"), "r@d0.load.test")
            assert set(others) <= {451}
            with Traffic(gateway.port, DOMAINS, make=make_varied) as traffic:
                traffic.wait(15)
                os.kill(bucket.pid, signal.SIGSTOP)
                wait_until(lambda: traffic.answers[451] >= 8, "senders are asked to come back")
                before = len(traffic.promised)
                time.sleep(1.0)
                assert len(traffic.promised) == before
                os.kill(bucket.pid, signal.SIGCONT)
                traffic.wait(15)
            assert set(traffic.answers) == {451}
            assert not traffic.unknown
            ledger = gateway.wait_ledger(1)
            assert ledger.is_closed, gateway.read_output()
            promised = sum(len(promise.people) for promise in traffic.promised.values())
            assert (ledger.accepted, ledger.delivered) == (promised + 1, promised + 1)
            check_kept(read_archive(gateway), traffic, shelf)
            found = console.call("archive", "find", "--limit", "0", "--json").out.splitlines()
            assert {json.loads(row)["id"] for row in found} >= {
                promise.id for promise in traffic.promised.values()
            }
            (one, *_) = traffic.promised.values()
            assert console.call_raw("archive", "get", one.id).stdout.endswith(one.octets)
        postponed = console.read_events("postponed")
        assert all(f"bucket {BUCKET}" in event["reason"] for event in postponed)
        assert not shelf.messages["early"]
