"""A program that listens on a port of 127.0.0.1, run as our child."""

import subprocess
import time
from abc import ABC, abstractmethod
from typing import ClassVar, Self

from tests.kit.ports import find_free_port, is_listening


class Program(ABC):
    """Runs from ``start`` to ``stop``; also a context manager.

    Each kind of program says how it is launched; what it leaves behind is removed by its ``stop``.
    """

    name: ClassVar[str]
    starts_within: ClassVar[float] = 20.0  # seconds
    stops_within: ClassVar[float] = 10.0  # seconds; then it is killed

    def __init__(self, port: int | None = None) -> None:
        self.port = port or find_free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def _launch(self) -> subprocess.Popen[bytes]:
        """Start the process, and return without waiting for anything."""

    @property
    def pid(self) -> int:
        """The process id of the program, not of what it starts in turn."""
        assert self._process is not None, "start it first"
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it accepts connections. Raises RuntimeError when it does not."""
        self._process = self._launch()
        deadline = time.monotonic() + self.starts_within
        while not is_listening(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not start:\n{self.read_output()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Ask it to end, and see to it that it does."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(self.stops_within)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def read_output(self) -> str:
        """Return what it has printed so far, if that is kept."""
        return ""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
