"""A program with a directory of its own."""

import shutil
import tempfile
from pathlib import Path

from tests.kit.program import Program


class Housed(Program):
    """A Program whose files are in ``directory``; its ``stop`` removes that. ``output``: for what it prints."""

    def __init__(self, prefix: str, *, within: str | None = None) -> None:
        """``within``: the directory to make it in; None: where such things are."""
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix=prefix, dir=within))
        self.output = self.directory / "output"

    def kill(self) -> None:
        """End it as a crash would, and it alone; ``start`` may follow."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Stop it the polite way, and remove its directory."""
        super().stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def read_output(self) -> str:
        """Return what it has printed so far."""
        return self.output.read_text("utf-8", "replace") if self.output.exists() else ""
