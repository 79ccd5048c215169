"""``outgate up``: ingress, workers, admin and the embedded store as supervised child processes.

The order of scopes is the order of things, read backwards at the end: the state directory is
held, the ports are known to be free, the store answers, services run. A signal cancels the inner
scope: services stop first (ingress before workers), the store after them.
"""

import argparse
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Sequence

import trio

from relay.config import Config, Endpoint, find_notices, load
from relay.config.storeurl import hide_secrets
from relay.errors import StartError
from relay.store.durability import require_durability
from relay.store.embedded import hold_state_dir, open_embedded
from workers.cli.asking import open_store
from workers.cli.child import Child
from workers.service import check_sources
from workers.site import find_notices as find_site_notices

_log = logging.getLogger("outgate.up")

_MARGIN = 5.0  # seconds beyond delivery.grace: a child that keeps to it is not killed
_REASONS = {
    errno.EADDRINUSE: "is taken ({}): stop the other program or change {}",
    errno.EADDRNOTAVAIL: "cannot be used ({}): this machine does not have that address; change {}",
    errno.EACCES: "may not be used ({}): ports below 1024 need root or CAP_NET_BIND_SERVICE; "
    "grant that or change {}",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(arguments: argparse.Namespace) -> int:
    """Run everything until SIGTERM or SIGINT. Raises ConfigError, StartError."""
    config = load(arguments.config)
    for notice in (*find_notices(config), *find_site_notices(config)):
        _log.warning("note: %s", notice)
    return trio.run(Supervisor(config, arguments.config).run)


class Supervisor:
    """What `outgate up` is while it runs."""

    def __init__(self, config: Config, path: str | None) -> None:
        self._config = config
        self._children = list(_list_children(config, path))  # ingress first
        self._work = trio.CancelScope()  # cancelled by a signal, or when a child cannot start
        self._failures: list[StartError] = []
        self._killed = False

    async def run(self) -> int:
        """Supervise until told otherwise; returns the exit code. Raises StartError."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._heed, signals)
                with self._work:
                    await self._serve(nursery)
                nursery.cancel_scope.cancel()
        if self._failures:
            raise self._failures[0]
        return 1 if self._killed else 0

    async def _serve(self, nursery: trio.Nursery) -> None:
        """Start everything; until cancelled; stop everything. Children live in ``nursery``."""
        with hold_state_dir(self._config):
            # What would stop every child is said once, and before any is started.
            check_ports(self._config.ingress.listen)
            if self._config.admin.enabled:
                check_ports(self._config.admin.listen, "admin.listen")
            await check_sources(list(self._config.source))
            async with _open_store(self._config) as store:
                try:
                    for child in self._children:
                        nursery.start_soon(self._keep, child)
                    for child in self._children:
                        if child.is_vital:
                            await child.ready.wait()
                    _log.info("ready: %s, store %s", _describe(self._config), store)
                    await trio.sleep_forever()
                finally:
                    await self._stop_children()

    async def _keep(self, child: Child) -> None:
        try:
            await child.run()
        except StartError as error:
            self._failures.append(error)
            self._work.cancel()

    async def _stop_children(self) -> None:
        with trio.CancelScope(shield=True):
            for child in self._children:
                child.stop()
            with trio.move_on_after(self._config.delivery.grace + _MARGIN):
                for child in self._children:
                    await child.ended.wait()
            for child in self._children:
                if not child.ended.is_set():
                    _log.warning("%s does not end: killing it", child.name)
                    child.kill()
                    await child.ended.wait()

    async def _heed(self, signals: AsyncIterator[int]) -> None:
        """The first signal asks everything to end, the second does not ask."""
        number = await anext(signals)
        _log.info("%s: stopping; once more to stop at once", signal.Signals(number).name)
        self._work.cancel()
        await anext(signals)
        _log.warning("stopping at once")
        self._killed = True
        for child in self._children:
            child.kill()


def _list_children(config: Config, path: str | None) -> Iterator[Child]:
    for service, count in (
        ("ingress", config.ingress.processes),
        ("worker", config.delivery.processes),
    ):
        argv = [*_python(), "-m", "workers.cli", service, *(["-c", path] if path else [])]
        for slot in range(1, count + 1):
            yield Child(f"{service} {slot}", argv, {"OUTGATE_SLOT": str(slot)})
    if config.admin.enabled:
        argv = [*_python(), "-m", "workers.cli", "admin", *(["-c", path] if path else [])]
        yield Child("admin", argv, is_vital=False)


def _python() -> list[str]:
    """Python as we run it; with -P unless we come from the current directory ourselves.

    Without -P, ``-m`` would look for ``workers`` in whatever directory the user is in first.
    """
    return [sys.executable] if os.getcwd() in sys.path else [sys.executable, "-P"]


def check_ports(listen: Sequence[Endpoint], setting: str = "ingress.listen") -> None:
    """See that every address is free. Raises StartError, which names the setting.

    The processes that share a port say SO_REUSEPORT, and so would not notice that an ingress of
    an earlier run, or of another user's gateway, sits there too and takes half of the mail.
    """
    for endpoint in listen:
        try:
            found = socket.getaddrinfo(
                endpoint.host, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            for family, kind, protocol, _, address in found:
                with socket.socket(family, kind, protocol) as probe:
                    # Connections of the last run may linger in TIME_WAIT; they are not in the way.
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    if family == socket.AF_INET6:
                        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    probe.bind(address)
        except OSError as error:
            raise StartError(_explain(endpoint, error, setting)) from error


def _explain(endpoint: Endpoint, error: OSError, setting: str) -> str:
    reason = _REASONS.get(error.errno or 0, "cannot be used ({}): change {}")
    said = error.strerror or str(error)
    shown = reason.format(said[:1].lower() + said[1:], setting)
    return f"port {endpoint.port} on {endpoint.host} {shown}"


@contextlib.asynccontextmanager
async def _open_store(config: Config) -> AsyncIterator[str]:
    """Run the embedded store, if the configuration names no other; yields what to call it.

    Raises StartError when the other one does not answer, or can lose mail.
    """
    if config.store.url:
        async with open_store(config) as store:
            await require_durability(store.link, level=config.store.durability)
        yield hide_secrets(config.store.url)
        return
    async with open_embedded(config, held=True) as server:
        yield f"embedded ({server.name})"


def _describe(config: Config) -> str:
    listen = " ".join(map(repr, config.ingress.listen))
    tls = "STARTTLS" if config.ingress.tls.certificate else "no TLS"
    count = config.delivery.processes
    sources = " ".join(source.name for source in config.source)
    return (
        f"ingress on {listen} ({tls}), {count} worker{'' if count == 1 else 's'}, sources {sources}"
    )
