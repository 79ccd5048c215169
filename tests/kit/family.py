"""The processes below a supervisor, found where the kernel lists them."""

import time
from pathlib import Path


def find_family(pid: int) -> dict[int, str]:
    """Return the living descendants of a process with their command lines."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # proc(5): pid (comm) state ppid ...
                fields = (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z":
                parents[int(entry.name)] = int(fields[1])
    family: dict[int, str] = {}
    grown = True
    while grown:
        grown = False
        for child, parent in parents.items():
            if child not in family and (parent == pid or parent in family):
                family[child] = read_command(child)
                grown = True
    return family


def read_command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def find_role(pid: int, role: str) -> list[int]:
    """Return the descendants of ``up`` that serve as "ingress", "worker" or "store"."""
    return sorted(child for child, command in find_family(pid).items() if _has_role(command, role))


def _has_role(command: str, role: str) -> bool:
    if "tether.py" in command:  # it has not become what it is to be yet
        return False
    if role == "store":
        return "-server" in command.split(" ", 1)[0]
    return f"workers.cli {role} " in command


def wait_for_role(pid: int, role: str, count: int, *, seconds: float = 20) -> list[int]:
    """Wait until so many serve in a role, and return them."""
    deadline = time.monotonic() + seconds
    while len(found := find_role(pid, role)) < count:
        assert time.monotonic() < deadline, f"{role}: {len(found)} of {count} run"
        time.sleep(0.05)
    return found
