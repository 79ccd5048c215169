"""A daemon that listens on a port and on a socket in its directory, for who wants trouble with it."""

import os
import signal

from tests.kit.housed import Housed


class Daemon(Housed):
    """After a ``crash``, ``start`` brings it back, in the same place."""

    @property
    def tcp(self) -> str:
        """Its address, as a configuration has it."""
        return f"127.0.0.1:{self.port}"

    @property
    def unix(self) -> str:
        """Its other address."""
        return f"unix:{self.directory}/{self.name}.sock"

    def crash(self) -> None:
        """End it at once, with all that belongs to it."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def freeze(self) -> None:
        """Let it stand still: connections are taken by the kernel, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def stop(self) -> None:
        """End it, frozen or not, and remove its directory."""
        if self._process is not None and self._process.poll() is None:
            self.thaw()
        super().stop()

    def read_output(self) -> str:
        """Return the last of what it has printed."""
        return super().read_output()[-4000:]
