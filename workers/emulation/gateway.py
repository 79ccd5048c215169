"""The gateway under demonstration: ``outgate up`` as a child process, and a look at its ledger."""

import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import trio

import workers
from relay.config import load
from relay.errors import NetworkError, StartError
from relay.net.connect import connect
from relay.process import Process, describe_end
from relay.store.opening import open_link
from relay.store.queue import Store
from workers.emulation.premises import Premises

_START = 30.0  # seconds until it greets; the first start of a cold machine takes long
_STOP = 30.0  # ... and until it has ended, beyond its own grace time
_LAST_LINES = 12


class Gateway:
    """A running gateway. Made by ``run_gateway``."""

    def __init__(self, premises: Premises, process: Process, store: Store) -> None:
        self._premises = premises
        self._process = process
        self.store = store

    async def watch(self) -> None:
        """Raise StartError when it ends by itself; until then, wait."""
        status = await self._process.wait()
        raise StartError(_tell_end(self._premises, status))


@contextlib.asynccontextmanager
async def run_gateway(premises: Premises) -> AsyncIterator[Gateway]:
    """Run ``outgate up``; it greets when the body begins, and is gone when this returns.

    Raises StartError with the last lines of its log.
    """
    with premises.log.open("wb") as log:
        process = Process(
            [sys.executable, "-m", "workers.cli", "up", "-c", str(premises.configuration)],
            orphaned=signal.SIGTERM,  # it has children of its own to stop
            environment=_make_environment(),
            output=log,
        )
    try:
        await _wait_until_ready(premises, process)
        config = load(str(premises.configuration), environment={})
        link = open_link(config)
        try:
            yield Gateway(premises, process, Store(link, config))
        finally:
            await link.aclose()
    finally:
        await process.stop(grace=_STOP)


def _make_environment() -> dict[str, str]:
    """Whatever store and configuration the user has: the demo must not touch them."""
    root = str(Path(workers.__file__).parent.parent)
    path = os.environ.get("PYTHONPATH", "")
    return {
        "OUTGATE_STORE_URL": "",
        "OUTGATE_CONFIG": "",
        "PYTHONPATH": f"{root}{os.pathsep}{path}" if path else root,
    }


async def _wait_until_ready(premises: Premises, process: Process) -> None:
    with trio.move_on_after(_START):
        while process.status is None:
            if await _is_greeting(premises.port):
                return
            await trio.sleep(0.1)
        raise StartError(_tell_end(premises, process.status))
    raise StartError(f"the gateway does not greet within {_START:g} s; {_read_end(premises)}")


async def _is_greeting(port: int) -> bool:
    with contextlib.suppress(NetworkError):
        stream = await connect("127.0.0.1", port, source="127.0.0.1")
        try:
            return (await stream.receive()).startswith(b"220")
        finally:
            stream.close()
    return False


def _tell_end(premises: Premises, status: int) -> str:
    return f"the gateway {describe_end(status)}; {_read_end(premises)}"


def _read_end(premises: Premises) -> str:
    lines = premises.log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
    return "\n  ".join(["it said:", *lines])
