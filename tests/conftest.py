"""Fixtures for all tests: the store's server, and the link and the queue on it.

Where something is missing (a program, the corpus), a test that needs it skips and says so. In CI
(CI=true) everything is there, so a skipped test is a failure.
"""

import os
import signal
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest

from relay.config import Config, read
from relay.store.link import Link
from relay.store.opening import make_link
from relay.store.queue import Store
from tests.kit.cluster import Cluster, open_cluster
from tests.kit.redis import Server, open_server


def pytest_configure() -> None:
    """Let our children hear Ctrl-C: a shell's background jobs ignore it, and so does what they start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI what is skipped has failed, and is among what is tried again (.ci/run)."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with slow tests first, so that those which fill up the cores at the end are short."""
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Server | Cluster]:
    """With OUTGATE_STORE_TOPOLOGY=cluster a Cluster: tests/relay/store passes on it, too.

    Not the tests that look at one server from the inside; they skip.
    """
    if os.environ.get("OUTGATE_STORE_TOPOLOGY") == "cluster":
        with open_cluster(replicas=0) as cluster:
            yield cluster
    else:
        with open_server() as server:
            yield server


@pytest.fixture
def server(shared_server: Server) -> Server:
    """An empty store."""
    shared_server.fresh()
    return shared_server


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return read({"state_dir": "state"}, base=tmp_path, environment={})


@pytest.fixture
async def link(server: Server) -> AsyncIterator[Link]:
    link = make_link(server.url, timeout=10)
    yield link
    await link.aclose()


@pytest.fixture
async def store(link: Link, config: Config) -> Store:
    return Store(link, config)
