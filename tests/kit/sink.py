"""Postfix's ``smtp-sink`` and ``smtp-source``: somewhere for mail to go, somewhere it comes from."""

import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from tests.kit.program import Program

_COUNTER = re.compile(rb"mesg=(\d+)\s")


def find_obstacle() -> str | None:
    """Return why there is no smtp-sink here, or None."""
    if shutil.which("smtp-sink") and shutil.which("smtp-source"):
        return None
    return "smtp-sink and smtp-source are not installed (Debian package postfix)"


class Sink(Program):
    """A running ``smtp-sink -c`` and its count of messages; also a context manager."""

    name = "smtp-sink"
    starts_within = 10.0

    def __init__(self, *options: str, port: int | None = None) -> None:
        super().__init__(port)
        self._options = options
        self._counters = tempfile.NamedTemporaryFile(prefix="smtp-sink-")  # noqa: SIM115

    @property
    def count(self) -> int:
        """How many messages have arrived: those whose final dot it has seen."""
        size = os.fstat(self._counters.fileno()).st_size
        tail = os.pread(self._counters.fileno(), 256, max(0, size - 256))
        found = _COUNTER.findall(tail)
        return int(found[-1]) if found else 0

    def _launch(self) -> subprocess.Popen[bytes]:
        as_nobody = ("-u", "nobody") if os.geteuid() == 0 else ()
        return subprocess.Popen(
            ["smtp-sink", *as_nobody, "-c", *self._options, f"127.0.0.1:{self.port}", "1000"],
            # -c writes a line for each message. A file takes it without waking anybody up.
            stdout=self._counters,
            stdin=subprocess.DEVNULL,
            cwd="/",
        )

    def stop(self) -> None:
        """End it, and remove the file of its count."""
        super().stop()
        self._counters.close()

    def wait(self, count: int, *, seconds: float, poll: float = 0.02) -> bool:
        """Wait until ``count`` messages have arrived; say whether they did."""
        deadline = time.monotonic() + seconds
        while self.count < count:
            if time.monotonic() > deadline:
                return False
            time.sleep(poll)
        return True


def source_command(
    port: int,
    *,
    count: int,
    size: int,
    sender: str,
    recipient: str,
    reuse: bool = False,
    message: Path | None = None,
) -> list[str]:
    """Return an smtp-source command: ``count`` messages of ``size`` octets over 20 sessions.

    ``message``: a file with what each is to be, lines ending in LF, instead. ``reuse`` keeps the sessions; otherwise each message has a connection of its own.
    """
    keep = ["-d"] if reuse else []
    content = ["-l", str(size)] if message is None else ["-F", str(message)]
    return [
        "smtp-source", *keep, "-s", "20", "-m", str(count), *content,
        "-M", "client.example.net", "-f", sender, "-t", recipient, f"127.0.0.1:{port}",
    ]  # fmt: skip


def run_source(
    port: int, *, count: int, sender: str, recipient: str, size: int = 4096, seconds: float = 120
) -> None:
    """Send ``count`` messages with smtp-source. Raises CalledProcessError when one is refused."""
    command = source_command(port, count=count, size=size, sender=sender, recipient=recipient)
    subprocess.run(command, check=True, timeout=seconds, capture_output=True)
