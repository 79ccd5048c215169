"""Thousands who are there to be in the way, while twenty honest clients send.

A whole gateway with the defaults of [ingress]: 2,000 connections, 500 of one address. Twice 6,000
connections are opened against it from eleven addresses, one of them that of half of the honest
clients, as behind a NAT: 5,000 that do nothing, or no more than greet; 1,000 that send an octet a second in a
command, in DATA, in a chunk, in a TLS handshake. What is closed is opened again. The honest ones must
hardly notice.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import trio
import trustme

from relay.net.certificates import load_certificates
from relay.net.listen import allow_files
from relay.store.queue import Store
from tests.bench.process import Others, read, read_peak
from tests.kit.family import wait_for_role
from tests.kit.gateway import Gateway
from tests.kit.pairs import write_pair
from tests.kit.sink import Sink, find_obstacle
from tests.kit.throng import Running
from tests.kit.visit import Client, make_config, make_desk, visit

pytestmark = pytest.mark.heavy

SHARED = "127.0.0.1"  # of honest ones and attackers
ADDRESSES = [SHARED, *(f"127.0.0.{number}" for number in range(31, 41))]
GROUPS = {
    "kept": {"count": 5, "address": "127.0.0.2", "kept": True},
    "fresh": {"count": 5, "address": "127.0.0.2", "kept": False},
    "kept, shared": {"count": 5, "address": SHARED, "kept": True},
    "fresh, shared": {"count": 5, "address": SHARED, "kept": False},
}
MEMORY = 200 << 10  # KiB, for 2,000 connections and what one may expect of Python


class Window(NamedTuple):
    """What happened for some seconds."""

    sent: dict[str, float]  # messages a second, by group
    cpu: float  # of the ingress, in cores

    @property
    def rate(self) -> float:
        return sum(self.sent.values())


class Field:
    """The gateway's ingress, and the honest clients that are measured."""

    def __init__(self, ingress: int, honest: Running) -> None:
        self._ingress = ingress
        self._honest = honest

    def measure(self, seconds: float) -> Window:
        before, cpu = self._honest.listen(time.monotonic()), self._read_cpu()
        after = self._honest.listen(before["time"] + seconds)
        used, span = self._read_cpu() - cpu, after["time"] - before["time"]
        sent = {name: (after.get(name, 0) - before.get(name, 0)) / span for name in GROUPS}
        return Window(sent, used / span)

    def _read_cpu(self) -> float:
        process = read(self._ingress)
        assert process is not None, "the ingress has died"
        return process.cpu


def compare(attacked: list[Window], quiet: list[Window], group: str) -> float:
    """Return how much of its rate a group keeps: medians of windows that alternate."""
    before, now = ([window.sent[group] for window in windows] for windows in (quiet, attacked))
    return statistics.median(now) / statistics.median(before)


def find_rest(attacked: list[Window], quiet: list[Window]) -> float:
    """Return how much of its one core the ingress has left for the honest ones under attack.

    That does not depend on who else uses the machine.
    """
    a_message = statistics.median(window.cpu / window.rate for window in quiet)
    return 1 - statistics.median(window.cpu - window.rate * a_message for window in attacked)


def count_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.mark.slow
@pytest.mark.skipif(find_obstacle() is not None, reason=str(find_obstacle()))
def test_a_crowd_hardly_hinders_who_sends(tmp_path: Path) -> None:
    if allow_files() < 8000:
        pytest.skip("this needs 8,000 open files: raise the hard limit (ulimit -Hn)")
    pair = write_pair(tmp_path, trustme.CA().issue_cert("gateway.example.net"))
    tls = f'[ingress.tls]\ncertificate = "{pair.certificate}"\nkey = "{pair.key}"\n'
    with (
        Sink() as sink,
        Gateway({"there.test": sink.port}, tables=tls) as gateway,
        Running("honest", port=gateway.port, groups=GROUPS) as honest,
    ):
        ingress = wait_for_role(gateway.pid, "ingress", 1)[0]
        field = Field(ingress, honest)
        honest.listen(time.monotonic() + 1)
        files, others = count_files(ingress), Others()
        quiet, attacked, opening, most_files = [field.measure(3)], [], [], 0
        with Running(
            "attackers", port=gateway.port, idle=5000, dribbling=1000, addresses=ADDRESSES,
            burst=600, again=200,
        ) as attackers:  # fmt: skip
            for _ in range(2):
                attackers.order("attack")
                opening.append(field.measure(10))
                attackers.listen(time.monotonic())
                attacked += [field.measure(2), field.measure(2)]
                most_files = max(most_files, count_files(ingress))
                attackers.order("rest")
                honest.listen(time.monotonic() + 1)
                quiet += [field.measure(2), field.measure(2)]
            seen = attackers.listen(time.monotonic())
        honest.order("rest")
        counts = honest.listen(time.monotonic() + 2)
        after = count_files(ingress)
        sent = int(sum(counts.get(name, 0) for name in GROUPS))
        ledger = gateway.wait_ledger(sent, seconds=120)
        busy = others.share()
        ratios = {name: compare(attacked, quiet, name) for name in GROUPS}
        rest = find_rest(attacked, quiet)
        peak = read_peak(ingress)
        figures = {
            "ratios": ratios, "rest": rest, "others": busy, "counts": counts, "attackers": seen,
            "files": (files, most_files, after), "peak": peak,
            "opening": opening, "quiet": quiet, "attacked": attacked,
        }  # fmt: skip
        output = gateway.read_output()
        arrived = sink.count

    told = str(figures)
    sys.stdout.write(told)  # for pytest -rP
    assert "Traceback" not in output
    # It was an attack.
    assert seen["opened"] >= 2 * 6000, told
    # Nothing is lost, and nothing came in that nobody sent.
    assert counts.get("unknown", 0) == 0, told
    assert (ledger.accepted, ledger.is_closed) == (sent, True), told
    assert arrived == sent, told
    # Nobody who sends is told to go; to come again, hardly anybody.
    assert counts.get("displaced", 0) == 0, told
    assert counts.get("turned away", 0) <= counts["connections"] / 100, told
    # The time tells nothing where others take the machine: the attackers' own process, which is on it
    # as well, and the honest ones' compete for what these leave.
    for ratio in ratios.values():
        assert ratio >= (0.8 if busy < 0.1 else 0.25), told
    assert rest >= 0.8, told
    # Some memory, no more files than there may be, and all of those are closed again.
    assert peak < MEMORY, told
    assert most_files < 2000 * 1.25 + 16 + 256, told
    assert after <= files + 8, told


# -- one who dribbles


async def say_hello(client: Client) -> None:
    await client.say(b"EHLO me.test")


async def begin_data(client: Client) -> None:
    await client.open_transaction()
    await client.say(b"DATA")


async def begin_chunk(client: Client) -> None:
    await client.open_transaction()
    await client.send(b"BDAT 100000\r\n")


async def begin_handshake(client: Client) -> None:
    await say_hello(client)
    assert (await client.say(b"STARTTLS"))[:3] == b"220"
    # The beginning of a ClientHello, which goes on for 16 KiB.
    await client.send(b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03")


@pytest.mark.parametrize("begin", [say_hello, begin_data, begin_chunk, begin_handshake])
async def test_who_dribbles_is_cut_off(
    begin: Callable[..., object], tmp_path: Path, store: Store, autojump_clock: trio.abc.Clock
) -> None:
    pair = write_pair(tmp_path, trustme.CA().issue_cert("gw.example.net"))
    config = make_config(
        tmp_path,
        message_timeout="10s",
        tls={"certificate": pair.certificate, "key": pair.key},
    )
    desk = make_desk(config, store, tls=load_certificates(config.ingress.tls))
    async with visit(desk) as client:
        begun = trio.current_time()
        await begin(client)  # type: ignore[misc]
        with trio.fail_after(60):
            try:
                while True:
                    await client.send(b"x")
                    await trio.sleep(1)
            except trio.BrokenResourceError:
                pass
        assert 9 < trio.current_time() - begun < 14
