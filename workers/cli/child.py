"""One service as a child process: started, started again when it dies, stopped on request."""

import logging
import os
from collections.abc import Mapping, Sequence

import trio

from relay.errors import StartError
from relay.process import Backoff, Process, describe_end
from relay.ready import VARIABLE

_log = logging.getLogger("outgate.up")

_REFUSED = 2  # the exit code for a wrong command line or configuration: trying again is no use
_TRIES = 3  # first starts that may fail for another reason


class Child:
    """A service that is kept running by ``run`` until ``stop``.

    ``ready`` is set when it has said for the first time that it serves (relay.ready); ``ended``
    when ``run`` is over and no process is left.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        environment: Mapping[str, str] | None = None,
        *,
        is_vital: bool = True,
    ) -> None:
        """``is_vital``: False, mail flows without it; it is tried again as long as it takes."""
        self.name = name
        self.is_vital = is_vital
        self.ready = trio.Event()
        self.ended = trio.Event()
        self._argv = argv
        self._environment = environment or {}
        self._process: Process | None = None
        self._stopping = trio.Event()

    @property
    def pid(self) -> int | None:
        """Process id; None between two lives."""
        return self._process.pid if self._process else None

    async def run(self) -> None:
        """Keep it running until ``stop``. Raises StartError when it cannot be made to run.

        Cancelled, it kills the process: that is for emergencies.
        """
        backoff = Backoff()
        failed = 0
        try:
            while not self._stopping.is_set():
                started = trio.current_time()
                status = await self._live()
                if self._stopping.is_set():
                    break
                failed += 1
                if self.is_vital:
                    self._give_up(status, failed)
                wait = backoff.next_wait(trio.current_time() - started)
                _log.warning(
                    "%s %s; starting it again in %g s", self.name, describe_end(status), wait
                )
                with trio.move_on_after(wait):
                    await self._stopping.wait()
        finally:
            self.ended.set()

    def stop(self) -> None:
        """Ask it to end, and do not start it again; ``ended`` says when it has."""
        self._stopping.set()
        if self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        """End it at once, and do not start it again."""
        self._stopping.set()
        if self._process is not None:
            self._process.kill()

    async def _live(self) -> int:
        """One life of the process, from start to end; returns how it ended."""
        reader, writer = os.pipe()
        async with trio.lowlevel.FdStream(reader) as pipe:
            try:
                process = Process(
                    self._argv,
                    environment={**self._environment, VARIABLE: str(writer)},
                    pass_fds=[writer],
                )
            finally:
                os.close(writer)
            self._process = process
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._await_ready, pipe)
                    status = await process.wait()
                    nursery.cancel_scope.cancel()
            finally:
                await process.stop(grace=0)
                self._process = None
        return status

    async def _await_ready(self, pipe: trio.lowlevel.FdStream) -> None:
        if await pipe.receive_some(16):  # nothing: it ended, or closed the pipe without a word
            self.ready.set()

    def _give_up(self, status: int, failed: int) -> None:
        if status == _REFUSED:
            raise StartError(f"{self.name} refused its configuration; what it said stands above")
        if not self.ready.is_set() and failed >= _TRIES:
            raise StartError(
                f"{self.name} {describe_end(status)} before it was ready, {failed} times; "
                "what it said stands above"
            )
