"""What it was measured on: processor, disk, versions."""

import os
import platform
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import redis
import trio

import relay


def describe() -> dict[str, str]:
    """Return what a reader of the figures needs to know of this machine."""
    return {
        "processor": f"{os.cpu_count()} x {_read_processor()}",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') >> 30} GiB",
        "kernel": platform.release(),
        "fdatasync of 4 KiB": f"{measure_sync() * 1000:.2f} ms (median)",
        "load before": f"{os.getloadavg()[0]:.2f}",
        "python": platform.python_version(),
        "trio": trio.__version__,
        "redis-py": redis.__version__,
        "store": _ask("redis-server", "--version", pattern=r"v=(\S+)", prefix="Redis "),
        "postfix": _ask("postconf", "-d", "-h", "mail_version", pattern=r"(\S+)"),
        "outgate": relay.__version__,
    }


def measure_sync(times: int = 200) -> float:
    """Return the median seconds of one appended 4 KiB block with fdatasync, in the temp dir."""
    with tempfile.TemporaryFile() as file:
        seconds = []
        for _ in range(times):
            file.write(b"x" * 4096)
            file.flush()
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def _read_processor() -> str:
    text = Path("/proc/cpuinfo").read_text()
    found = re.search(r"model name\s*: (.*)", text)
    return found[1] if found else platform.machine()


def _ask(*command: str, pattern: str, prefix: str = "") -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "not found"
    found = re.search(pattern, done.stdout)
    return prefix + found[1] if found else "not found"
