"""Both ends: the processes of generator and sink, and what they have counted."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.system import BenchFailed
from tests.bench.tls.certificates import Certificates
from tests.bench.tls.counts import Counts, Page
from tests.kit.program import Program

_ROOT = Path(__file__).parents[3]


class Sink(Program):
    """A running ``tests.bench.tls.sink``; also a context manager."""

    name = "the sink with TLS"

    def __init__(self, certificates: Certificates) -> None:
        super().__init__()
        self._certificates = certificates
        self._directory = tempfile.TemporaryDirectory(prefix="sink-")
        self._counts = Path(self._directory.name) / "counts"
        self._page = Page(self._counts)

    def read(self) -> Counts:
        """Return what has arrived so far."""
        return self._page.read()

    def _launch(self) -> subprocess.Popen[bytes]:
        files = (self._certificates.chain, self._certificates.key, self._counts)
        return subprocess.Popen(
            [sys.executable, "-m", "tests.bench.tls.sink", str(self.port), *files],
            cwd=_ROOT, stdin=subprocess.PIPE, process_group=0,
        )  # fmt: skip

    def stop(self) -> None:
        """End it, and remove its file."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
        super().stop()
        self._page.close()
        self._directory.cleanup()


class Source:
    """A running ``tests.bench.tls.source``, which waits for its orders."""

    def __init__(self, process: subprocess.Popen[bytes], page: Page) -> None:
        self.pid = process.pid
        self._process = process
        self._page = page

    def begin(self, count: int, each: int) -> None:
        """Have ``count`` messages sent, ``each`` over one session."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"%d %d\n" % (count, each))
        self._process.stdin.flush()

    def read(self) -> Counts:
        """Return what it has done so far. Raises BenchFailed when it has given up."""
        if self._process.poll() is not None:
            assert self._process.stderr is not None
            raise BenchFailed(self._process.stderr.read().decode("utf-8", "replace"))
        return self._page.read()


@contextmanager
def open_source(port: int, certificates: Certificates) -> Iterator[Source]:
    """Start a generator that sends to ``port``; it connects when it is told to begin."""
    with tempfile.TemporaryDirectory(prefix="source-") as name:
        page = Page(counts := Path(name) / "counts")
        command = [sys.executable, "-m", "tests.bench.tls.source"]
        with subprocess.Popen(
            [*command, str(port), certificates.ca_file, counts],
            cwd=_ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0,
        ) as process:  # fmt: skip
            try:
                yield Source(process, page)
            finally:
                process.kill()
                page.close()
