"""The systems that the load goes through: nothing, Postfix, outgate."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from tests.bench.process import Naming, name_outgate, name_postfix, read_peak, tree
from tests.bench.proven import open_names
from tests.kit.gateway import Gateway
from tests.kit.postfix import Postfix


class BenchFailed(Exception):
    """A run did not do what it should have done; its figures would mean nothing."""


@dataclass(frozen=True, slots=True)
class Running:
    """A system that accepts mail on ``port`` and passes it to the sink."""

    port: int
    root: int | None  # its first process; None when there is none between source and sink
    naming: Naming
    read_log: Callable[[], str]
    check: Callable[[int], None]  # after so many messages: raises BenchFailed if one is missing
    proven: bool = False  # messages must be signed by tests.bench.proven

    def peaks(self) -> dict[str, int]:
        """Return the peak of resident memory by name, KiB; the largest where a name is shared."""
        found: dict[str, int] = {}
        for process in tree(self.root) if self.root else ():
            name = self.naming(process)
            found[name] = max(found.get(name, 0), read_peak(process.pid))
        return found


@contextmanager
def open_nothing(sink_port: int) -> Iterator[Running]:
    """Source to sink, nothing between: what the harness itself can do."""
    yield Running(sink_port, None, name_postfix, lambda: "", lambda _: None)


# Where this differs from what Debian installs, and why; RESULTS.md has the measurements. Durability
# is the default: cleanup fsyncs each queue file before the 250. No content filter, no DNS:
# tests.kit.postfix. Left alone: default_process_limit (100) and smtp_destination_concurrency_limit
# (20), which 20 sessions do not exceed.
POSTFIX = {
    # smtp-source does not speak TLS; outgate is measured without it too.
    "smtpd_tls_security_level": "none",
    "smtp_tls_security_level": "none",
}
FASTER = POSTFIX | {
    # No process ends and starts anew within a run (default: after 100 uses). It also keeps the
    # CPU time by program exact.
    "max_use": "1000000",
    # 20 sessions to the sink from the start; the default works up from 5.
    "initial_destination_concurrency": "20",
    # On loopback a new connection costs less than a visit to the connection cache.
    "smtp_connection_cache_on_demand": "no",
    # Never make a client wait for the queue manager to catch up (default: up to 1s).
    "in_flow_delay": "0",
}


def _check_postfix(postfix: Postfix) -> None:
    # The sink has the messages before the last queue files are removed: look at the log for
    # trouble, not at the queue.
    for word in ("status=deferred", "status=bounced", "fatal:", "panic:"):
        if word in postfix.read_log():
            raise BenchFailed(f"postfix logged {word}")


@contextmanager
def open_postfix(
    sink_port: int, settings: Mapping[str, str] = POSTFIX, *, host: str = "127.0.0.1"
) -> Iterator[Running]:
    """Postfix as Debian installs it, with the sink on ``host`` as its relayhost."""
    with Postfix({**settings, "relayhost": f"[{host}]:{sink_port}"}) as postfix:
        yield Running(
            postfix.port, postfix.pid, name_postfix, postfix.read_log,
            lambda _: _check_postfix(postfix),
        )  # fmt: skip


def open_postfix_tuned(sink_port: int) -> AbstractContextManager[Running]:
    """Postfix with the settings that make it faster in this very test."""
    return open_postfix(sink_port, FASTER)


@contextmanager
def open_outgate(sink_port: int) -> Iterator[Running]:
    """``outgate up`` with the embedded store and the sink as everybody's host."""
    with Gateway({"*": sink_port}) as gateway:
        yield Running(
            gateway.port, gateway.pid, name_outgate, gateway.read_output,
            lambda count: check_ledger(gateway, count),
        )  # fmt: skip


_PROOF = """\
proof = ["dkim"]
align_from = true
messages = ["100000/s", "900000000/d"]
"""
# One that it must be asked about, and that is not about this mail; and the trail.
_RULES = """\
[[rule]]
name = "no-offers"
action = "reject"
[[rule.header]]
name = "Subject"
pattern = "special offer"
[audit]
directory = "audit"
[dns]
nameservers = ["{names}"]
"""


@contextmanager
def open_outgate_proven(sink_port: int) -> Iterator[Running]:
    """The same with all that tells whose mail it is, and what became of it.

    Each message proves its tenant by DKIM, has its From looked at, is counted in the tenant's quota,
    goes by a rule, and leaves its lines in the audit trail.
    """
    with (
        open_names() as names,
        Gateway({"*": sink_port}, tenant=_PROOF, tables=_RULES.format(names=names)) as gateway,
    ):
        yield Running(
            gateway.port, gateway.pid, name_outgate, gateway.read_output,
            lambda count: _check_trail(gateway, count), proven=True,
        )  # fmt: skip


def _check_trail(gateway: Gateway, count: int) -> None:
    """Beside the ledger: each message was proven by its signature, and stands in the trail."""
    check_ledger(gateway, count)
    deadline = time.monotonic() + 5  # it is written four times a second
    while (proven := _count_proven(gateway)) != count:
        if time.monotonic() > deadline:
            raise BenchFailed(f"{count} messages sent, {proven} in the trail are proven by DKIM")
        time.sleep(0.1)


def _count_proven(gateway: Gateway) -> int:
    return sum(
        b'"event":"accepted"' in line and b'"proof":"dkim"' in line
        for path in (gateway.directory / "audit").rglob("*.jsonl")
        for line in path.read_bytes().splitlines()
    )


def check_ledger(gateway: Gateway, count: int) -> None:
    """Raise BenchFailed unless so many messages were accepted, and all are delivered."""
    ledger = gateway.wait_ledger(count)
    if not (ledger.is_closed and ledger.delivered == count):
        raise BenchFailed(f"{count} messages sent, but the ledger says {ledger}")


SYSTEMS: dict[str, Callable[[int], AbstractContextManager[Running]]] = {
    "generator": open_nothing,
    "postfix": open_postfix,
    "outgate": open_outgate,
    "postfix-tuned": open_postfix_tuned,
    "outgate-proven": open_outgate_proven,
}
