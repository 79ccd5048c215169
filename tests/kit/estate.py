"""Several hosts that are one gateway: a store, two ingress, three workers, receivers and senders.

with open_estate(tmp_path) as estate:
    with estate.send() as loads:
        estate.wait_for_traffic(loads)
        estate["w1"].cut("store")
        ...
    estate.finish(loads)

               store network            mail network
    store ─────────┤
    in1, in2 ──────┼────────────────────────┤
    w1, w2, w3 ────┼────────────────────────┤  two sources each
    mx                                      ├─ three receiving hosts: mailrooms
    sender                                  ┤

Real processes: a store, ``outgate ingress``, ``outgate worker --source ...``. We ourselves reach the
store through its socket in the file system, whatever is cut.
"""

import json
import smtplib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from relay.store.keys import SHARDS, make_key
from tests.kit.audit import assert_sound
from tests.kit.gateway import Ledger
from tests.kit.hosts import Host, Network, open_network
from tests.kit.load import Load
from tests.kit.mailroom import Mailroom
from tests.kit.ports import is_listening
from tests.kit.promises import Kept, check_promises
from tests.kit.redis import Server

STORE = "198.18.1.1"
INGRESS = {"in1": "198.18.2.11", "in2": "198.18.2.12"}
WORKERS = {
    "w1": {"a1": "198.18.2.21", "a2": "198.18.2.22"},
    "w2": {"b1": "198.18.2.31", "b2": "198.18.2.32"},
    "w3": {"c1": "198.18.2.41", "c2": "198.18.2.42"},
}
SOURCES = {name: address for ours in WORKERS.values() for name, address in ours.items()}
MX = ("198.18.2.201", "198.18.2.202", "198.18.2.203")
SENDER = "198.18.2.101"
PORT = 25
DOMAINS = tuple(f"d{number}.load.test" for number in range(12))

CLAIM = 5.0  # lease of a delivery, and of a connection, s
TIMEOUT = 2.0  # of a round trip to the store, s
_LOOK = 0.05

_CONFIG = """\
checks.interval = 0
[store]
url = "redis://198.18.1.1:6379"
timeout = "{timeout:.0f}s"
[ingress]
{listen}
hostname = "gateway.example.net"
[[tenant]]
name = "acme"
domains = ["acme.example"]
networks = ["198.18.2.0/24"]
"""


class Estate:
    """All of it, running. ``network`` has the hosts, ``mailrooms`` what receivers got."""

    def __init__(
        self, network: Network, base: Path, server: Server, settings: str, timeout: float
    ) -> None:
        self.network = network
        self.server = server
        self.mailrooms: list[Mailroom] = []
        self._base = base
        self._settings = settings
        self._timeout = timeout

    def __getitem__(self, name: str) -> Host:
        return self.network[name]

    # -- processes ----------------------------------------------------------------------------

    def start_ingress(self, name: str) -> None:
        """Run ``outgate ingress`` on a host."""
        listen = f'listen = ["{INGRESS[name]}:{PORT}"]'
        self._start(name, listen, "ingress")

    def start_worker(self, name: str) -> None:
        """Run ``outgate worker`` on a host, for its own sources."""
        options = [option for source in WORKERS[name] for option in ("--source", source)]
        self._start(name, "", "worker", *options)

    def _start(self, name: str, ingress: str, *command: str) -> None:
        directory = self._base / name
        directory.mkdir(exist_ok=True)
        config = directory / "outgate.toml"
        text = _CONFIG.format(timeout=self._timeout, listen=ingress) + self._settings
        config.write_text(f'state_dir = "{directory}/state"\n{text}')
        verb, *options = command
        argv = [sys.executable, "-m", "workers.cli", verb, "-c", str(config), *options]
        self[name].start(argv, directory / "output")

    def wait_until_there(self, *, seconds: float = 30) -> None:
        """Wait until every ingress listens, and every source is known to be served."""
        with self["sender"].inside():
            for address in INGRESS.values():
                self.wait(lambda: is_listening(PORT, address), "no ingress", seconds=seconds)  # noqa: B023
        with self.server.client() as client:
            present = make_key(0, "present")

            def are_there() -> bool:
                members = [f"source:{name}" for name in SOURCES]
                return None not in client.zmscore(present, members)

            self.wait(are_there, "not all workers are there", seconds=seconds)

    def wait(self, condition: Callable[[], object], text: str, *, seconds: float = 20) -> None:
        """Wait until a condition holds; fail with ``text`` and what the processes have said."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{text}\n{self.read_output()}"
            time.sleep(_LOOK)

    def read_output(self) -> str:
        """Return what all processes have printed."""
        paths = sorted(self._base.glob("*/output"))
        return "\n".join(f"{path.parent.name}:\n{path.read_text('utf-8')}" for path in paths)

    # -- traffic ------------------------------------------------------------------------------

    @contextmanager
    def send(
        self, *, threads: int = 2, pause: float = 0.02, domains: Sequence[str] = DOMAINS
    ) -> Iterator[dict[str, Load]]:
        """Send to each ingress within the block."""
        loads = {
            name: Load(PORT, domains, threads=threads, pause=pause, host=address, name=f"{name}-")
            for name, address in INGRESS.items()
        }
        with ExitStack() as stack:
            with self["sender"].inside():  # its threads, too
                for load in loads.values():
                    stack.enter_context(load)
            yield loads

    @property
    def arrived(self) -> Counter[tuple[str, str]]:
        """What the receiving hosts have seen, by mark and domain."""
        return sum((Counter(dict(room.arrived)) for room in self.mailrooms), Counter())

    def count_dots(self, worker: str = "") -> int:
        """Return how many messages receivers have got, from all workers or one."""
        return len(self.find_dots(worker))

    def find_dots(self, worker: str = "") -> list[float]:
        """Return when receivers got them, in order; monotonic clock."""
        clients = set((WORKERS[worker] if worker else SOURCES).values())
        dots = [dot for room in self.mailrooms for dot in list(room.dots)]
        return sorted(when for when, client in dots if client in clients)

    def wait_for_traffic(self, loads: Mapping[str, Load], *, seconds: float = 30) -> None:
        """Wait until every ingress accepts mail and every worker delivers, from now on."""
        accepted = {name: len(load.accepted) + 20 for name, load in loads.items()}
        dots = {name: self.count_dots(name) + 10 for name in WORKERS}

        def flows() -> bool:
            return all(len(loads[name].accepted) >= count for name, count in accepted.items()) and (
                all(self.count_dots(name) >= count for name, count in dots.items())
            )

        self.wait(flows, "no traffic", seconds=seconds)

    def try_ingress(self, name: str) -> int:
        """Send a message that is taken back; return the code of MAIL, 0 where none came."""
        with self["sender"].inside():
            try:
                with smtplib.SMTP(INGRESS[name], PORT, "client.test", timeout=5) as session:
                    session.ehlo()
                    return session.mail("sender@acme.example")[0]
            except (OSError, smtplib.SMTPException):
                return 0

    def hold(self, worker: str) -> None:
        """Keep a worker waiting for answers to its final dots; return when it does wait.

        Those of its first source, at each receiving host that gets mail; the other goes on.
        """
        rooms = [room for room in self.mailrooms if room.dots]
        client = next(iter(WORKERS[worker].values()))
        for room in rooms:
            room.hold(client)
        self.wait(lambda: all(room.kept[client] for room in rooms), f"{worker} sends nothing")

    def release(self) -> None:
        """Answer all that were kept waiting."""
        for room in self.mailrooms:
            room.release()

    # -- books --------------------------------------------------------------------------------

    def read_ledger(self) -> Ledger:
        """Add up the ledger of all shards."""
        total: Counter[str] = Counter()
        with self.server.client() as client:
            for shard in range(SHARDS):
                for name, count in client.hgetall(make_key(shard, "ledger")).items():
                    total[name.decode()] += int(count)
        return Ledger(**{name: total[name] for name in Ledger.__slots__})

    def list_attempts(self, worker: str = "") -> list[dict[str, Any]]:
        """Return the attempts that are open, of a worker or of all."""
        with self.server.client() as client:
            attempts = [
                json.loads(event)
                for shard in range(SHARDS)
                for event in client.hvals(make_key(shard, "attempts"))
            ]
        sources = WORKERS[worker] if worker else SOURCES
        return [event for event in attempts if event["source"] in sources]

    def read_events(self, *names: str, host: str = "*") -> list[dict[str, Any]]:
        """Return events of these names that processes wrote, of a host or of all, by time."""
        lines = [
            line
            for path in self._base.glob(f"{host}/state/events.jsonl")
            for line in path.read_bytes().splitlines()
        ]
        events = [event for event in map(json.loads, lines) if event["event"] in names]
        return sorted(events, key=lambda event: float(event["time"]))

    def finish(
        self, loads: Mapping[str, Load], *, others: Sequence[str] = (), seconds: float = 60
    ) -> Kept:
        """Wait until nothing is queued; stop everything, and hold what arrived against the promises.

        ``others``: marks that did not come from ``loads``. No delivery may have been settled by two.
        """
        self.wait(lambda: self.read_ledger().is_closed, "the queue is not empty", seconds=seconds)
        for name in (*INGRESS, *WORKERS):
            self[name].stop()
        self.wait(lambda: self.read_ledger().is_closed, "it came to rest, and did not stay so")
        ledger = self.read_ledger()
        assert ledger.bounced == 0
        with self.server.client() as client:
            assert_sound(client, leftover=True)
            kept = check_promises(client, loads.values(), self.arrived, ledger, others=others)
        assert kept.promised > 30, "too little was going on for the test to mean anything"
        settled = Counter(event["delivery"] for event in self.read_events("delivered"))
        assert not [one for one, count in settled.items() if count > 1]
        return kept


def _write_settings(routes: Mapping[str, str], site: str, claim: float) -> str:
    lines = [site]
    for name, address in SOURCES.items():
        lines += ["[[source]]", f'name = "{name}"', f'address = "{address}"']
        lines += [f'ehlo = "{name}.out.example.net"']
    lines += ["[pool.default]", *(f"{name} = 1" for name in SOURCES)]
    lines += ["[delivery]", f'claim = "{claim:.0f}s"', 'retry = ["1s"]', 'idle = "1s"']
    for domain, address in routes.items():
        lines += ["[[route]]", f'domains = ["{domain}"]', f'hosts = ["{address}"]']
    return "\n".join(lines) + "\n"


def make_network(network: Network) -> None:
    """Add all hosts."""
    network.add("store", store=[STORE])
    for number, (name, address) in enumerate(INGRESS.items()):
        network.add(name, store=[f"198.18.1.{11 + number}"], mail=[address])
    for number, (name, sources) in enumerate(WORKERS.items()):
        network.add(name, store=[f"198.18.1.{21 + number}"], mail=list(sources.values()))
    network.add("mx", mail=MX)
    network.add("sender", mail=[SENDER])


@contextmanager
def open_estate(
    base: Path,
    *,
    site: str = "",
    routes: Mapping[str, str] | None = None,
    delay: float = 0.03,
    claim: float = CLAIM,
    timeout: float = TIMEOUT,
) -> Iterator[Estate]:
    """Run all of it until the block ends.

    ``routes``: more of them, domain to "address:port"; those of DOMAINS go to the first two
    mailrooms. ``site``: [[site]] tables. ``delay``: what a mailroom takes for each message, s.
    """
    spread = {d: f"{MX[number % 2]}:{PORT}" for number, d in enumerate(DOMAINS)}
    settings = _write_settings({**spread, **(routes or {})}, site, claim)
    with ExitStack() as stack:
        network = stack.enter_context(open_network("store", "mail"))
        make_network(network)
        directory = base / "store"
        directory.mkdir()
        server = Server(directory, port="6379", bind=STORE, protected_mode="no")
        estate = Estate(network, base, server, settings, timeout)
        with network["store"].inside():
            server.start()
        stack.callback(server.stop)
        with network["mx"].inside():
            rooms = [Mailroom(address, port=PORT, delay=delay) for address in MX]
        for room in rooms:
            estate.mailrooms.append(stack.enter_context(room))
            stack.callback(room.release)
        for name in INGRESS:
            estate.start_ingress(name)
        for name in WORKERS:
            estate.start_worker(name)
        estate.wait_until_there()
        yield estate
