"""The line on the terminal while the bench runs."""

import sys
import time


class Progress:
    """Steps done, and how far the current one is; one line on standard error, rewritten."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._step = 0
        self._label = ""
        self._shown = 0.0
        self._terminal = sys.stderr.isatty()

    def begin(self, label: str) -> None:
        """The next step begins."""
        self._step += 1
        self._label = label
        self._shown = 0.0

    def show(self, done: int, total: int, seconds: float) -> None:
        """The current step has done so much of its work in so many seconds."""
        now = time.monotonic()
        if not self._terminal or now - self._shown < 0.2:
            return
        self._shown = now
        rate = done / seconds if seconds > 0 else 0
        self._write(f"{done}/{total}  {rate:,.0f}/s")

    def end(self, result: str) -> None:
        """The current step is done; its result stays on the screen."""
        self._write(result)
        sys.stderr.write("\n")
        sys.stderr.flush()

    def _write(self, text: str) -> None:
        clear = "\r\x1b[K" if self._terminal else ""
        sys.stderr.write(f"{clear}[{self._step}/{self._steps}] {self._label}: {text}")
        sys.stderr.flush()
