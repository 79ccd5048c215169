"""Metrics: what they say adds up, Prometheus can read them, and what could be many is bounded."""

import shutil
import signal
import smtplib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trustme
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from relay.config import Config, load, read
from relay.counters import Counters
from relay.store.counters import Books, Pusher
from relay.store.embedded import find_url
from relay.store.link import Link
from relay.store.queue import Store
from relay.store.standing import Report, Standings
from relay.store.suspension import Suspension, Suspensions
from tests.kit.gateway import Gateway
from tests.kit.messages import EVENT, make_delivery
from tests.kit.pairs import write_pair
from tests.kit.ports import find_free_port
from tests.kit.redis import open_server
from tests.kit.sink import Sink, find_obstacle
from workers.admin.metrics import SITES, Metrics

# What deploy/ builds on: names, and the labels of each.
NAMES = {
    "outgate_recipients_total": {"outcome"},
    "outgate_recipients_queued": set(),
    "outgate_ledger_difference": set(),
    "outgate_notices_total": {"outcome"},
    "outgate_deliveries": {"state"},
    "outgate_queues": set(),
    "outgate_oldest_delivery_age_seconds": set(),
    "outgate_site_deliveries": {"site"},
    "outgate_messages_total": {"tenant", "result"},
    "outgate_message_bytes_total": {"direction"},
    "outgate_attempts_total": {"site", "source", "result"},
    "outgate_replies_total": {"site", "label"},
    "outgate_accept_seconds_bucket": {"le"},
    "outgate_delivery_seconds_bucket": {"le"},
    "outgate_attempt_seconds_bucket": {"le"},
    "outgate_tls_sessions_total": {"direction", "level", "version"},
    "outgate_sessions": {"service", "host", "pid"},
    "outgate_connections": {"source"},
    "outgate_source_up": {"source"},
    "outgate_standing_score": {"source", "site"},
    "outgate_standing_pace": {"source", "site"},
    "outgate_quarantined": {"source", "site"},
    "outgate_warmup_allowance": {"source", "site"},
    "outgate_warmup_used": {"source", "site"},
    "outgate_suspensions": {"kind"},
    "outgate_tenant_state": {"tenant", "state"},
    "outgate_certificate_expiry_timestamp_seconds": {"name"},
    "outgate_store_up": set(),
    "outgate_store_memory_bytes": set(),
    "outgate_store_memory_limit_bytes": set(),
    "outgate_store_durable": set(),
    "outgate_store_replicas": set(),
    "outgate_store_replicas_wanted": set(),
    "outgate_workers": set(),
    "outgate_events_dropped_total": set(),
    "outgate_build_info": {"version"},
}


class Read:
    """Metrics as Prometheus reads them."""

    def __init__(self, octets: bytes) -> None:
        self.text = octets.decode()
        self.families: dict[str, Metric] = {
            family.name: family for family in text_string_to_metric_families(self.text)
        }
        self.samples = [s for family in self.families.values() for s in family.samples]

    def find(self, name: str, **labels: str) -> float:
        """Return the sum of the samples with these labels."""
        return sum(
            s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items()
        )

    def list(self, name: str, label: str) -> set[str]:
        return {sample.labels[label] for sample in self.samples if sample.name == name}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    names = ("a", "b", "new")
    document = {
        "tenant": [{"name": "acme", "domains": ["acme.example"], "networks": ["127.0.0.0/8"]}],
        "source": [
            {
                "name": name,
                "address": f"127.0.0.1{place}",
                **({"warmup": "default"} if name == "new" else {}),
            }
            for place, name in enumerate(names)
        ],
        "pool": {"default": dict.fromkeys(names, 1)},
    }
    return read(document, base=tmp_path, environment={})


@pytest.fixture
def metrics(store: Store, config: Config) -> Metrics:
    return Metrics(store, config)


async def push(link: Link, counters: Counters) -> None:
    await Pusher(link, "worker", lambda: {"a": 2}, counters=counters).push()


async def test_an_empty_store_says_so(metrics: Metrics) -> None:
    found = Read(await metrics.render())

    assert found.find("outgate_store_up") == 1
    assert found.find("outgate_store_durable") == 1
    assert found.find("outgate_store_replicas") == 0
    assert found.find("outgate_store_replicas_wanted") == 0
    assert found.find("outgate_queues") == 0
    assert found.find("outgate_events_dropped_total") == 0
    assert found.find("outgate_source_up") == 0
    assert found.list("outgate_source_up", "source") == {"a", "b", "new"}


async def test_what_waits_is_counted_by_site(metrics: Metrics, store: Store) -> None:
    for _ in range(3):
        delivery = make_delivery()
        await store.accept([delivery], EVENT, b"x")

    found = Read(await metrics.render())

    assert found.find("outgate_recipients_total", outcome="accepted") == 3
    assert found.find("outgate_recipients_queued") == 3
    assert found.find("outgate_ledger_difference") == 0
    assert found.find("outgate_deliveries", state="ready") == 3
    assert found.find("outgate_site_deliveries") == 3


async def test_mail_that_is_missing_is_a_difference(
    metrics: Metrics, store: Store, link: Link
) -> None:
    await store.accept([make_delivery()], EVENT, b"x")
    await link.call("HINCRBY", "{og3}:ledger", "accepted", 2)

    assert Read(await metrics.render()).find("outgate_ledger_difference") == 2


async def test_histograms_hold_what_is_below_their_bounds(metrics: Metrics, link: Link) -> None:
    counters = Counters()
    for seconds in (0.02, 0.2, 0.2, 1e6):
        counters.observe("attempt_seconds", seconds)
    await push(link, counters)

    found = Read(await metrics.render())

    name = "outgate_attempt_seconds"
    assert [found.find(f"{name}_bucket", le=le) for le in ("0.01", "0.025", "0.25", "300.0")] == [
        *(0, 1, 3, 3)
    ]
    assert found.find(f"{name}_count") == found.find(f"{name}_bucket", le="+Inf") == 4
    assert found.find(f"{name}_sum") == pytest.approx(1_000_000.42)


async def test_strangers_sites_are_bounded_and_none_is_lost(metrics: Metrics, link: Link) -> None:
    books = Books(link)
    counts = {("attempts", (f"s{n}.test", "a", "delivered")): n + 1 for n in range(150)}
    await books.push(counts, "worker:h:1", {})
    first = Read(await metrics.render())
    await books.push({**counts}, "worker:h:1", {})

    second = Read(await metrics.render())

    named = second.list("outgate_attempts_total", "site")
    assert len(named) == SITES + 1
    assert {"other", "s149.test"} <= named
    grown = second.find("outgate_attempts_total") - first.find("outgate_attempts_total")
    assert grown == sum(counts.values())


async def test_what_another_version_counted_is_left_out(metrics: Metrics, link: Link) -> None:
    await link.call(
        "HSET", "{og0}:counters", "attempts|x", 1, "unheard|of", 2, "attempts|s|a|x|y", 3
    )

    assert Read(await metrics.render()).find("outgate_attempts_total") == 0


async def test_how_sources_stand(
    metrics: Metrics, store: Store, config: Config, link: Link
) -> None:
    standings = Standings(link, config)
    await standings.report("big.test", [Report("a", delivered=100)])
    await standings.report("big.test", [Report("b", blocked=1, why="listed", most=10.0)])
    await standings.report("big.test", [Report("new", delivered=7)])
    await standings.report("slow.test", [Report("a", throttled=1, most=10.0, rest=60)])

    found = Read(await metrics.render())

    assert found.find("outgate_standing_score", source="a", site="big.test") > 0.8
    assert found.find("outgate_quarantined", source="b", site="big.test") == 1
    assert found.find("outgate_quarantined", source="a", site="big.test") == 0
    assert 0 < found.find("outgate_standing_pace", source="a", site="slow.test") < 10
    assert found.find("outgate_warmup_allowance", source="new", site="big.test") == 50
    assert found.find("outgate_warmup_used", source="new", site="big.test") >= 0


async def test_what_operators_decided(metrics: Metrics, link: Link) -> None:
    suspensions = Suspensions(link)
    for one in (
        Suspension(site="x"),
        Suspension(source="a", site="x"),
        Suspension(site="y"),
        Suspension(),
    ):
        await suspensions.suspend(one)

    found = Read(await metrics.render())

    kinds = {
        kind: found.find("outgate_suspensions", kind=kind)
        for kind in found.list("outgate_suspensions", "kind")
    }
    assert kinds == {
        "tenant": 0,
        "domain": 0,
        "site": 2,
        "source": 0,
        "site+source": 1,
        "everything": 1,
    }
    assert found.find("outgate_tenant_state", tenant="acme") == 0


async def test_sessions_of_processes_and_sources(metrics: Metrics, link: Link) -> None:
    await push(link, Counters())

    found = Read(await metrics.render())

    assert found.find("outgate_sessions", service="worker") == 2
    assert found.find("outgate_connections", source="a") == 2
    assert found.find("outgate_process_resident_memory_bytes") > 1 << 20


async def test_without_a_store_the_rest_is_told(config: Config, tmp_path: Path) -> None:
    link = Link(f"unix://{tmp_path}/nobody", timeout=1)
    found = Read(await Metrics(Store(link, config), config).render())
    await link.aclose()

    assert found.find("outgate_store_up") == 0
    assert found.find("outgate_build_info") == 1
    assert "outgate_queues" not in found.families


async def test_replicas_are_counted(config: Config) -> None:
    port = find_free_port()
    with open_server(port=str(port)) as server, open_server(replicaof=f"127.0.0.1 {port}"):
        link = Link(server.url, timeout=10)
        metrics = Metrics(Store(link, config), config)
        with trio.fail_after(30):
            while not Read(await metrics.render()).find("outgate_store_replicas"):  # noqa: ASYNC110
                await trio.sleep(0.1)
        await link.aclose()


async def test_a_store_that_hangs_does_not_hold_it_up(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.admin.metrics._PATIENCE", 0.2)
    with open_server() as server:
        link = Link(server.url, timeout=60)
        await link.call("PING")
        assert server.process is not None
        server.process.send_signal(signal.SIGSTOP)
        try:
            with trio.fail_after(30):
                found = Read(await Metrics(Store(link, config), config).render())
        finally:
            server.process.send_signal(signal.SIGCONT)
        assert found.find("outgate_store_up") == 0
        await link.aclose()


# -- all of it ------------------------------------------------------------------------------------


@pytest.fixture
def certified(tmp_path: Path) -> str:
    pair = write_pair(tmp_path, trustme.CA().issue_cert("gateway.example.net"))
    return f'tls = {{ certificate = "{pair.certificate}", key = "{pair.key}" }}'


@pytest.fixture
def gateway(certified: str) -> Iterator[Gateway]:
    """Hosts that take, refuse and put off."""
    if obstacle := find_obstacle():
        pytest.skip(obstacle)
    with Sink() as good, Sink("-f", "RCPT") as bad, Sink("-r", "RCPT") as later:
        routes = {
            "good.test": good.port, "acme.example": good.port, "bad.test": bad.port, "later.test": later.port,
        }  # fmt: skip
        with Gateway(routes, ingress=certified) as running:
            yield running


def send(gateway: Gateway, domain: str, sender: str = "a@acme.example") -> None:
    with smtplib.SMTP("127.0.0.1", gateway.port, timeout=30) as session:
        session.sendmail(sender, [f"b@{domain}"], b"Subject: x\r\n\r\nhello\r\n")


async def read_until(gateway: Gateway, outcomes: dict[str, float]) -> Read:
    """Ask until the ledger says this, and what processes counted has come."""
    config = load(str(gateway.config))
    link = Link(find_url(config), timeout=10)
    metrics = Metrics(Store(link, config), config)
    try:
        with trio.fail_after(60):
            while True:
                found = Read(await metrics.render())
                told = {o: found.find("outgate_recipients_total", outcome=o) for o in outcomes}
                if told == outcomes and found.find("outgate_attempts_total") >= 6:
                    return found
                await trio.sleep(0.2)
    finally:
        await link.aclose()


@pytest.mark.slow
def test_after_real_traffic_all_is_there_and_adds_up(gateway: Gateway) -> None:
    for _ in range(3):
        send(gateway, "good.test")
    send(gateway, "bad.test")
    send(gateway, "later.test")
    with pytest.raises(smtplib.SMTPSenderRefused):
        send(gateway, "good.test", "a@elsewhere.example")

    found = trio.run(read_until, gateway, {"accepted": 5, "delivered": 3, "bounced": 1})

    missing = [
        name
        for name in NAMES
        if name.removesuffix("_total").removesuffix("_bucket") not in found.families
    ]
    assert missing == []
    for sample in found.samples:
        if sample.name in NAMES:
            assert set(sample.labels) == NAMES[sample.name], sample
    assert found.find("outgate_recipients_queued") == 1
    assert found.find("outgate_ledger_difference") == 0
    assert found.find("outgate_messages_total", tenant="acme", result="accepted") == 5
    assert found.find("outgate_messages_total", result="refused") == 1
    # A notice was written about what bounced, and that is a delivery, too.
    assert found.find("outgate_notices_total", outcome="delivered") == 1
    assert found.find("outgate_attempts_total", result="delivered") == 3 + 1
    assert found.find("outgate_attempts_total", result="bounced") == 1
    assert found.find("outgate_attempts_total", result="deferred") == 1
    assert found.find("outgate_delivery_seconds_count") == 3
    assert found.find("outgate_accept_seconds_count") == 5
    assert found.find("outgate_tls_sessions_total", direction="in", level="none") == 5
    assert found.find("outgate_sessions") >= 0
    assert found.list("outgate_sessions", "service") == {"ingress", "worker"}
    assert found.find("outgate_source_up") == 3
    assert found.find("outgate_workers") == 1
    assert found.list("outgate_certificate_expiry_timestamp_seconds", "name") == {
        "gateway.example.net"
    }
    check_with_promtool(found.text)


def check_with_promtool(text: str) -> None:
    """What Prometheus' own tool says of names, units and help."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
