"""Runs the engine on one target, in a process of its own, and tells how it goes."""

import os
import re
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

# libFuzzer's status lines: "#4096\tpulse  cov: 512 ft: 1100 corp: 88/12Kb lim: 90 exec/s: 1365 rss: 80Mb"
_STATUS = re.compile(r"#(\d+)\s+\S+\s+cov: (\d+) ft: (\d+) corp: (\d+)/\S+(?:.*? exec/s: (\d+))?")
_MOST_OCTETS = 8192  # of an input
_MOST_SECONDS = 10  # for one input: it is a finding then
_MOST_MEMORY = 1024  # MiB of the process
_TAIL = 60  # lines that are shown of a finding
_EVERY = 5.0  # seconds between two words about how far it is, where no line can be rewritten
_CODES = {70: "an input took too long", 71: "an input took too much memory", 77: "an exception"}


@dataclass(frozen=True, slots=True)
class Status:
    """How far the engine is. ``edges``: of our code, that some input has led to."""

    runs: int
    edges: int
    features: int
    inputs: int
    rate: int  # runs each second


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended. ``words``: what was found, "" for nothing; ``tail``: the engine's last lines."""

    target: str
    words: str
    findings: tuple[Path, ...] = ()
    tail: str = ""

    @property
    def is_sound(self) -> bool:
        """True when nothing was found."""
        return not self.words


def read_status(line: str) -> Status | None:
    """Read a line of the engine's; None: it is none of its status lines."""
    found = _STATUS.match(line)
    return Status(*(int(number or 0) for number in found.groups())) if found else None


def run_target(name: str, home: Path, seconds: int) -> Outcome:
    """Fuzz for so long, or until something is found. Needs ``home/corpus``; writes what it says."""
    findings, log = home / "findings", home / "log"
    findings.mkdir(exist_ok=True)
    before = set(findings.iterdir())
    command = [
        *(sys.executable, "-m", "tests.fuzz.engine", name, str(home / "corpus")),
        *(f"-max_total_time={seconds}", f"-max_len={_MOST_OCTETS}", f"-timeout={_MOST_SECONDS}"),
        *(f"-rss_limit_mb={_MOST_MEMORY}", f"-artifact_prefix={findings}/"),
    ]
    tail: deque[str] = deque(maxlen=_TAIL)
    with log.open("w") as file, _start(command) as engine:
        assert engine.stdout is not None
        progress = _Progress(name, seconds)
        for line in engine.stdout:
            file.write(line)
            if (status := read_status(line)) is not None:
                progress.show(status)
            else:
                tail.append(line)
    words = _CODES.get(engine.returncode, f"it ended with {engine.returncode}")
    words = "" if not engine.returncode else words
    progress.end(words)
    new = tuple(sorted(set(findings.iterdir()) - before))
    return Outcome(name, words, new, "".join(tail))


def _start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )


class _Progress:
    """A line for a target: rewritten on a terminal, now and then elsewhere."""

    def __init__(self, name: str, seconds: int) -> None:
        self._name = name
        self._seconds = seconds
        self._start = self._shown = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._status = Status(0, 0, 0, 0, 0)

    def show(self, status: Status) -> None:
        self._status = status
        now = time.monotonic()
        if now - self._shown >= (0.2 if self._terminal else _EVERY):
            self._shown = now
            self._write("" if self._terminal else "\n")

    def end(self, words: str) -> None:
        self._write(f"  {words or 'nothing found'}\n")

    def _write(self, end: str) -> None:
        status, spent = self._status, time.monotonic() - self._start
        rate = status.runs / spent if spent > 0 else 0
        sys.stderr.write(
            f"{chr(13) if self._terminal else ''}{self._name:<14}{spent:4.0f}/{self._seconds} s"
            f"{status.runs:>10,} runs{rate:>8,.0f}/s{status.edges:>6} edges{status.inputs:>6} inputs"
            + end
        )
        sys.stderr.flush()
