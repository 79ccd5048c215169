"""A child process that dies with us, and how long to wait before starting it again."""

import math
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import IO

import trio

from relay.tether import name_parent, tethered

# A thread for each child where there are no pidfds: trio's usual limit would make waits wait.
_WAITERS = trio.CapacityLimiter(math.inf)


class Process:
    """One running child. It is not stopped by leaving a scope: call ``stop``.

    Start it from the main thread (relay.tether says why). ``argv[0]`` is an absolute path.
    ``orphaned`` is the signal it gets when we die. It has a process group of its own, so that
    Ctrl-C at a terminal reaches the supervisor alone, which then stops children in its order.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        orphaned: signal.Signals = signal.SIGKILL,
        environment: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        output: IO[bytes] | None = None,
    ) -> None:
        self._popen = subprocess.Popen(  # noqa: S603
            tethered(argv, orphaned),
            env={**os.environ, **name_parent(), **(environment or {})},
            pass_fds=pass_fds,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,
        )
        self.pid = self._popen.pid
        self._pidfd = _open_pidfd(self.pid)

    @property
    def status(self) -> int | None:
        """Exit status; minus the signal's number when one ended it; None while it runs."""
        return self._popen.poll()

    async def wait(self) -> int:
        """Wait for its end and return ``status``. One task at a time."""
        if self._popen.poll() is None:
            if self._pidfd is not None:
                await trio.lowlevel.wait_readable(self._pidfd)
            else:
                await trio.to_thread.run_sync(
                    self._popen.wait, abandon_on_cancel=True, limiter=_WAITERS
                )
        status = self._popen.wait()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
        return status

    def terminate(self) -> None:
        """Ask it to end (SIGTERM); nothing happens when it has."""
        self._popen.terminate()

    def kill(self) -> None:
        """End it (SIGKILL)."""
        self._popen.kill()

    async def stop(self, *, grace: float) -> int:
        """Ask it to end, after ``grace`` seconds make it end; even when we are being cancelled."""
        with trio.CancelScope(shield=True):
            self.terminate()
            with trio.move_on_after(grace):
                await self.wait()
            if self.status is None:
                self.kill()
            return await self.wait()
        raise AssertionError("a shielded scope without a deadline does not end early")


def _open_pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # not Linux, or a sandbox without it
        return None


class Backoff:
    """Waits between restarts: doubling, until something has lived for a while."""

    def __init__(self, *, first: float = 0.2, last: float = 10, healthy: float = 30) -> None:
        self._first = first
        self._last = last
        self._healthy = healthy
        self._next = first

    def next_wait(self, life: float) -> float:
        """Return the seconds to wait after something has lived ``life`` seconds."""
        if life >= self._healthy:
            self._next = self._first
        wait = self._next
        self._next = min(self._next * 2, self._last)
        return wait


def describe_end(status: int) -> str:
    """Say how a process ended: ``was ended by SIGKILL``, ``ended with exit status 1``."""
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
