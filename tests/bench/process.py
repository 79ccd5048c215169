"""What processes have used: CPU time and resident memory, from /proc."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

_TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    """One process, as it was when looked at. Times in seconds."""

    pid: int
    parent: int
    name: str  # comm: at most 15 characters
    arguments: tuple[str, ...]
    cpu: float
    children_cpu: float  # of children that have ended and been waited for


Naming = Callable[[Process], str]


def read(pid: int) -> Process | None:
    """Look at one process; None when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # proc(5): pid (comm) state ppid ... utime is field 14, stime 15, cutime 16, cstime 17; comm
    # may hold anything, a closing bracket included.
    name, _, rest = stat.partition("(")[2].rpartition(")")
    fields = rest.split()
    own, user, system, user_children, system_children = (
        int(fields[n]) for n in (1, 11, 12, 13, 14)
    )
    return Process(
        pid=pid,
        parent=own,
        name=name,
        arguments=tuple(a.decode("utf-8", "replace") for a in arguments.split(b"\0")),
        cpu=(user + system) * _TICK,
        children_cpu=(user_children + system_children) * _TICK,
    )


def tree(root: int) -> list[Process]:
    """Look at a process and all that descend from it."""
    everything = [p for p in map(read, _pids()) if p is not None]
    found = [p for p in everything if p.pid == root]
    for process in found:
        found.extend(p for p in everything if p.parent == process.pid)
    return found


def count_cpu(root: int, name: Naming) -> Counter[str]:
    """Return the CPU seconds that a tree has used since it began, by name.

    Children that have ended count as ``<parent> (ended)``: their names are gone.
    """
    seconds: Counter[str] = Counter()
    for process in tree(root):
        seconds[name(process)] += process.cpu  # type: ignore[assignment]
        if process.children_cpu:
            seconds[f"{name(process)} (ended)"] += process.children_cpu  # type: ignore[assignment]
    return seconds


def read_busy() -> float:
    """Return the CPU seconds that this machine has spent on anything since it started."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    # proc(5): user nice system idle iowait irq softirq steal; guest is in user already.
    user, nice, system, _, _, irq, softirq, steal = (int(field) for field in fields[1:9])
    return (user + nice + system + irq + softirq + steal) * _TICK


class Others:
    """How much of the machine goes to anything but us and what we have started: noise."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._busy = read_busy() - _count_ours()

    def share(self) -> float:
        """Return it since the beginning, as a part of all cores."""
        busy = read_busy() - _count_ours() - self._busy
        seconds = (time.monotonic() - self._begun) * (os.cpu_count() or 1)
        return max(0.0, busy / seconds)


def _count_ours() -> float:
    """Return the CPU seconds of this process and all that descend from it, ended ones included."""
    return sum(count_cpu(os.getpid(), name_postfix).values())


def read_peak(pid: int) -> int:
    """Return the peak of resident memory, in KiB, since the process began (VmHWM)."""
    return _read_status(pid, "VmHWM")


def read_resident(pid: int) -> int:
    """Return the resident memory now, in KiB (VmRSS)."""
    return _read_status(pid, "VmRSS")


def name_outgate(process: Process) -> str:
    """Name a process of ``outgate up`` by what it does."""
    program = os.path.basename(process.arguments[0]) if process.arguments else ""
    if "redis" in program or "valkey" in program or "redis" in process.name:
        return "store"
    return next((role for role in ("ingress", "worker") if role in process.arguments), "up")


def name_postfix(process: Process) -> str:
    """Name a process of Postfix: its programs say it themselves."""
    return process.name


def _read_status(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise ValueError(f"no {key} of process {pid}")


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())
