"""The audit trail under kill -9 of everything: it verifies, it is complete, and it keeps secrets.

What may be missing from it. An event becomes a line when what it tells has happened in the store, and
is in the file a quarter of a second later (relay/audit/trail.py). Who is killed between the two takes
those lines with him: an ingress those of messages that it accepted, a worker those of deliveries that
ended, in the last second before the kill, and no others. The message's story in the store was written
with what it tells, in one script: there each of them still stands. A store that is killed costs no
line: who had no reply asks again, and learns from the story what the first time came to.
"""

import base64
import os
import random
import shutil
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis

from relay.audit.line import read_beginning
from tests.kit.audit import assert_sound
from tests.kit.console import Console, read_story, read_trail, wait_until
from tests.kit.family import wait_for_role
from tests.kit.gateway import Gateway
from tests.kit.letters import Traffic, make_letter, post
from tests.kit.shelf import Shelf
from tests.kit.signing import SigningDomain, make_rsa_key

pytestmark = [pytest.mark.slow, pytest.mark.heavy]

ROUNDS = ("ingress", "worker", "store", "ingress")
DOMAINS = [f"d{number}.load.test" for number in range(8)]
DELIVERY = 'processes = 1\nclaim = "2s"\nretry = ["1s"]\nidle = "1s"'
BEFORE = 1.0  # seconds before a kill that may be missing
ENDS = ("delivered", "bounced")

HEADER = b"correct-horse-battery-staple-4711"
AUDIT_KEY = b"audit-key-audit-key-audit-key-0817"
BODY = b"the body that nobody else may read"
TABLES = """\
[audit]
directory = "audit"
key_file = "audit.key"
[[footer]]
name = "who"
text = "ACME, the first in the phone book"
[[rule]]
name = "signed-again"
senders = ["signed@acme.example"]
footer = "who"
"""
TENANT = """\
proof = ["header"]
header = "X-Acme-Relay"
header_secret_file = "header.secret"
[[tenant.dkim]]
domain = "acme.example"
selector = "s1"
key_file = "dkim.pem"
"""


class Audited(Gateway):
    """A gateway with a trail, and with secrets of each kind."""

    def __init__(self, port: int) -> None:
        super().__init__({"*.load.test": port}, delivery=DELIVERY, tenant=TENANT, tables=TABLES)
        self.domain = SigningDomain("acme.example", key=make_rsa_key())
        self.key = self.domain.write_key()
        (self.directory / "header.secret").write_bytes(HEADER + b"\n")
        (self.directory / "audit.key").write_bytes(AUDIT_KEY + b"\n")
        (self.directory / "dkim.pem").write_bytes(self.key)

    @property
    def trail(self) -> Path:
        return self.directory / "audit"

    def read_trail(self) -> Iterator[dict[str, Any]]:
        """Yield the lines of all chains."""
        return read_trail(self.trail)


def make_private(mark: str) -> bytes:
    """Return a message that proves whose it is, with a body that is nobody else's business."""
    return make_letter(mark, BODY + b"\r\n", head=b"X-Acme-Relay: %b\r\n" % HEADER)


@dataclass
class Run:
    """What was done to a gateway, and what came of it."""

    gateway: Audited
    console: Console
    traffic: Traffic
    shelf: Shelf
    kills: list[tuple[str, float]] = field(default_factory=list)  # who; seconds since 1970

    def is_excused(self, name: str, moment: float) -> bool:
        """Tell whether something that happened then may be missing: who writes it was killed."""
        writer = "ingress" if name == "accepted" else "worker"
        return any(role == writer and kill - BEFORE <= moment <= kill for role, kill in self.kills)


@pytest.fixture(scope="module")
def chance() -> random.Random:
    seed = os.environ.get("OUTGATE_SEED") or str(random.randrange(1 << 32))
    print(f"OUTGATE_SEED={seed}")  # noqa: T201 - pytest shows it when the test fails
    return random.Random(seed)


@pytest.fixture(scope="module")
def run(chance: random.Random) -> Iterator[Run]:
    """A gateway after load with kills, still running, with nothing to do."""
    with Shelf(pause=lambda: time.sleep(chance.random() * 0.05)) as shelf:
        with Audited(shelf.port) as gateway:
            traffic = Traffic(gateway.port, DOMAINS, make=make_private)
            run = Run(gateway, Console(gateway), traffic, shelf)
            with traffic:
                for role in ROUNDS:
                    kill_one(run, role, chance)
                wait_for_traffic(run)
            ledger = gateway.wait_ledger(1, seconds=40)
            assert ledger.is_closed, gateway.read_output()
            operate(run)
            post_signed(run)
            wait_until_told(run)
            yield run


def kill_one(run: Run, role: str, chance: random.Random) -> None:
    """Kill somebody when all is well: nobody has waited for the store with an event of before."""
    wait_for_traffic(run)
    was_away = bool(run.kills) and run.kills[-1][0] == "store"
    time.sleep((BEFORE if was_away else 0) + chance.random() * 0.3)
    (victim,) = wait_for_role(run.gateway.pid, role, 1)
    os.kill(victim, signal.SIGKILL)
    run.kills.append((role, time.time()))


def wait_for_traffic(run: Run) -> None:
    arrived = len(run.shelf.arrived) + 15
    run.traffic.wait(15)
    wait_until(lambda: len(run.shelf.arrived) >= arrived, "mail is delivered")


def operate(run: Run) -> None:
    """An operator holds a message that waits, lets it go, and suspends a domain."""
    console = run.console
    why = ("--who", "eve", "--why")
    console.ask("suspend", "--domain", "wait.load.test", *why, "they asked us to")
    letter = make_private("operated")
    message_id = post(run.gateway.port, letter, "r@wait.load.test").id
    assert console.ask("hold", "--id", message_id, *why, "looks odd")["deliveries"] == 1
    assert console.call("resume", "--domain", "wait.load.test", *why, "they are well").status == 0
    assert console.ask("retry", "--id", message_id, *why, "it is all right")["deliveries"] == 1
    wait_until(lambda: bool(run.shelf.messages["operated"]), "what was held arrives")


def post_signed(run: Run) -> None:
    """Send a message that a rule changes, and that must be signed again for it."""
    letter = b"X-Acme-Relay: %b\r\n%b" % (
        HEADER,
        run.gateway.domain.sign(make_letter("signed", BODY)),
    )
    post(run.gateway.port, letter, "r@d0.load.test", sender="signed@acme.example")
    wait_until(lambda: bool(run.shelf.messages["signed"]), "what was signed arrives")


def wait_until_told(run: Run) -> None:
    """Wait until the store knows each chain's end: then nothing of it can be cut off unseen."""

    def is_told() -> bool:
        with run.console.open_store() as client:
            heads = client.hgetall("{og0}:heads")
        ends = {
            file.parent.name: read_beginning(file.read_bytes().splitlines()[-1])
            for file in run.gateway.trail.rglob("*.jsonl")
        }
        return all(
            end is not None and int(heads.get(name.encode(), b"0").split()[0]) == end.n
            for name, end in ends.items()
        )

    wait_until(is_told, "the store knows the ends")


# -- what is in it ----------------------------------------------------------------------------


def test_it_is_sound(run: Run) -> None:
    done = run.console.call("audit", "verify")
    assert done.status == 0, done
    assert done.out.startswith("sound: ")
    assert len(run.traffic.promised) > 60, "too little was going on for the test to mean anything"
    with run.console.open_store() as client:
        assert_sound(client, leftover=True)


def test_everything_is_in_it_but_the_last_second_of_who_was_killed(run: Run) -> None:
    told: dict[str, set[str]] = defaultdict(set)
    for event in run.gateway.read_trail():
        if event["event"] == "accepted":
            told[str(event["id"])].add("accepted")
        elif event["event"] in ENDS:
            told[str(event["id"])].add(str(event["delivery"]))
    missing = 0
    with run.console.open_store() as client:
        for promise in run.traffic.promised.values():
            story = read_story(client, promise.id)
            lines = dict(find_ends(story))
            assert len(lines) == 1 + len(promise.people), (promise.id, story)
            for name, event in lines.items():
                if name in told[promise.id]:
                    continue
                missing += 1
                assert run.is_excused(name, event["time"]), (name, event, run.kills)
    print(f"{missing} lines went with who was killed")  # noqa: T201


def find_ends(story: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a message's beginning, and the end of each of its deliveries."""
    for event in story:
        if event["event"] == "accepted":
            yield "accepted", event
        elif event["event"] in ENDS:
            yield str(event["delivery"]), event


def test_nobody_is_in_it_who_was_never_accepted(run: Run, client: redis.Redis) -> None:
    ids = {str(event["id"]) for event in run.gateway.read_trail() if event["event"] == "accepted"}
    unpromised = ids - {promise.id for promise in run.traffic.promised.values()}
    # Beside those two of ours: what was accepted by somebody who was killed before he could say so.
    assert len(unpromised) <= len(run.traffic.unknown) + 2
    assert all(read_story(client, message_id) for message_id in ids)


@pytest.fixture
def client(run: Run) -> Iterator[redis.Redis]:
    with run.console.open_store() as client:
        yield client


def test_operators_are_in_it(run: Run) -> None:
    (message,) = [e for e in run.gateway.read_trail() if e["event"] == "held"]
    decided = [e for e in run.gateway.read_trail() if e.get("who") == "eve"]
    said = [(e["command"], e["why"]) for e in decided if e["event"] == "command"]
    assert said == [
        ("suspend", "they asked us to"),
        ("hold", "looks odd"),
        ("resume", "they are well"),
        ("retry", "it is all right"),
    ]
    outcomes = {(e["event"], e["why"]) for e in decided}
    assert outcomes >= {
        ("suspended", "they asked us to"),
        ("held", "looks odd"),
        ("resumed", "they are well"),
        ("retried", "it is all right"),
    }
    assert message["ids"]


def test_no_secret_is_in_what_is_written_down(run: Run, client: redis.Redis) -> None:
    password = client.connection_pool.connection_kwargs["password"].encode()
    key = [line for line in run.gateway.key.splitlines() if b"-----" not in line]
    private = [HEADER, BODY, AUDIT_KEY, password, *key]
    private += [base64.b64encode(one)[:-4] for one in (HEADER, BODY)]
    files = [file for file in run.gateway.trail.rglob("*") if file.is_file()]
    files += [file for file in run.console.state.rglob("*") if is_log(file)]
    files.append(run.gateway.directory / "output")
    names = {file.name for file in files}
    assert names >= {"output", "events.jsonl", "server.log"}
    assert len(list(run.gateway.trail.rglob("*.jsonl"))) >= 3
    for file in files:
        octets = file.read_bytes()
        for secret in private:
            assert secret not in octets, (file, secret)
    # They were all in use: the proof, and the key for what was changed.
    (sent,) = run.shelf.messages["signed"]
    assert sent.octets.count(b"DKIM-Signature: ") == 2
    assert HEADER not in sent.octets
    assert BODY in sent.octets


def is_log(file: Path) -> bool:
    """Tell whether a file is written for people; the store's own files have the mail in them."""
    return file.is_file() and file.suffix in (".log", ".1", ".jsonl")


# -- harm -------------------------------------------------------------------------------------


def verify_copy(run: Run, copy: Path) -> tuple[int, str]:
    done = run.console.call("audit", "verify", str(copy))
    return done.status, done.out


def copy_trail(run: Run, base: Path) -> Path:
    """Return a copy of the trail, which verifies as the trail does."""
    return shutil.copytree(run.gateway.trail, base / "trail")


def test_an_octet_that_was_changed(run: Run, tmp_path: Path, chance: random.Random) -> None:
    copy = copy_trail(run, tmp_path)
    assert verify_copy(run, copy)[0] == 0
    harmed = {}
    for file in sorted(copy.rglob("*.jsonl")):
        lines = file.read_bytes().splitlines(keepends=True)
        number = chance.randrange(len(lines))
        place = chance.randrange(len(lines[number]) - 1)
        line = bytearray(lines[number])
        line[place] ^= 1
        lines[number] = bytes(line)
        file.write_bytes(b"".join(lines))
        harmed[file] = number + 1
    status, out = verify_copy(run, copy)
    assert status == 1
    for file, line in harmed.items():
        # It does not fit what follows; where nothing does, the store knows better.
        assert any(f"{file}, line {n}: " in out for n in (line, line + 1)), (file, line, out)


def test_lines_that_are_gone(run: Run, tmp_path: Path) -> None:
    copy = copy_trail(run, tmp_path)
    taken, cut, gone, *_ = sorted(copy.rglob("*.jsonl"), key=lambda file: -file.stat().st_size)
    lines = taken.read_bytes().splitlines(keepends=True)
    middle = len(lines) // 2
    taken.write_bytes(b"".join(lines[:middle] + lines[middle + 1 :]))
    cut.write_bytes(b"".join(cut.read_bytes().splitlines(keepends=True)[:-1]))
    gone.unlink()
    status, out = verify_copy(run, copy)
    assert status == 1
    assert f"{taken}, line {middle + 1}: " in out
    assert "missing before this one" in out
    (said,) = [line for line in out.splitlines() if line.startswith(f"{cut.parent.name}: ")]
    assert "its end is cut off" in said
    (said,) = [line for line in out.splitlines() if line.startswith(f"{gone.parent.name}: ")]
    assert "ends with line 0" in said


def test_a_chain_that_is_gone(run: Run, tmp_path: Path) -> None:
    copy = copy_trail(run, tmp_path)
    chain = next(path for path in copy.iterdir() if ".operator." in path.name)
    shutil.rmtree(chain)
    status, out = verify_copy(run, copy)
    assert status == 1
    assert f"{chain.name}: the chain is missing" in out
