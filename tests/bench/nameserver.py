"""A name server that counts what it is asked: ``python -m tests.bench.nameserver``, a process.

It holds each answer back for a moment, as one far away would, and says how many questions for one
name were open at a time. The first line on standard output is its port; each line on standard
input is answered by what was counted since the last one, as JSON. It ends with standard input.
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import dns.message
import dns.rrset
import trio

from relay.config import Endpoint
from tests.kit.nameserver import Nameserver, Trouble, Zone

_ROOT = Path(__file__).parents[2]
_ADDRESS = "127.0.0.1"
_PAUSE = 0.02  # seconds
_TTL = 3600
_ADDRESSES = 70  # of a wide name: as many as a datagram holds (EDNS, 1232 octets)


@dataclass(frozen=True, slots=True)
class Count:
    """Questions: in all, for the name asked for most often, open at a time for one name."""

    asked: int
    most: int
    in_flight: int


class Counted(Nameserver):
    """The kit's server, counting. A question is a name and a type."""

    def __init__(self, zone: Zone) -> None:
        super().__init__(zone, ttl=_TTL)
        self._made: dict[tuple[str, str], dns.rrset.RRset] = {}
        self._open: Counter[bytes] = Counter()
        self._most_open = 0

    def take(self) -> Count:
        """Return what was counted since the last time."""
        counts = Counter(self.queries)
        count = Count(counts.total(), max(counts.values(), default=0), self._most_open)
        self.queries.clear()
        self._most_open = 0
        return count

    async def _answer(self, wire: bytes) -> dns.message.Message | None:
        question = wire[12:]  # RFC 1035 §4.1.1: after the header
        self._open[question] += 1
        self._most_open = max(self._most_open, self._open[question])
        try:
            await trio.sleep(_PAUSE)
            return await super()._answer(wire)
        finally:
            self._open[question] -= 1
            if not self._open[question]:
                del self._open[question]

    def _find(self, name: str) -> Mapping[str, list[str]] | Trouble | None:
        # Neither wildcards nor empty names here: no search through thousands for each question.
        return self.zone.get(name)

    def _rrset(self, name: str, kind: str, records: list[str]) -> dns.rrset.RRset:
        if (made := self._made.get((name, kind))) is None:
            made = self._made[name, kind] = super()._rrset(name, kind, records)
        return made


def make_zone(domains: int, hosts: int, wide: int) -> Zone:
    """Return so many domains with two of the hosts each, and names with very many addresses."""
    addresses = [f"198.51.100.{number}" for number in range(_ADDRESSES)]
    return (
        {
            name_domain(n): {
                "MX": [f"10 mx{n % hosts}.hosts.example.", f"20 mx{(n + 7) % hosts}.hosts.example."]
            }
            for n in range(domains)
        }
        | {f"mx{n}.hosts.example": {"A": [f"203.0.113.{n + 1}"]} for n in range(hosts)}
        | {name_wide(n): {"A": addresses} for n in range(wide)}
    )


def name_domain(number: int) -> str:
    """Return the name of a domain of the zone."""
    return f"domain{number}.example"


def name_wide(number: int) -> str:
    """Return a name of the zone that has very many addresses."""
    return f"wide{number}.example"


class Answers:
    """The process, from its parent's side; also a context manager."""

    def __init__(self, domains: int, hosts: int, wide: int) -> None:
        command = [
            sys.executable,
            "-m",
            "tests.bench.nameserver",
            *map(str, (domains, hosts, wide)),
        ]
        self._process = subprocess.Popen(
            command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.endpoint = Endpoint(_ADDRESS, int(self._read()))

    def take(self) -> Count:
        """Return what it has counted since the last time."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Count(**json.loads(self._read()))

    def _read(self) -> str:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            self.stop()
            raise RuntimeError("the bench's name server has ended")
        return line

    def stop(self) -> None:
        """End it."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


async def _serve(domains: int, hosts: int, wide: int) -> None:
    server = Counted(make_zone(domains, hosts, wide))
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        _say(str(server.port))
        while await trio.to_thread.run_sync(sys.stdin.readline):
            count = server.take()
            _say(json.dumps({name: getattr(count, name) for name in Count.__slots__}))
        nursery.cancel_scope.cancel()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    trio.run(_serve, int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
