"""Chains on disk: their names, their files, and who holds one.

A chain belongs to one process at a time, which holds the lock on its file ``lock``. Its name is
``<host>.<role>.<slot>``: a process that is started again goes on with the chain of the one before.
Where the slot is taken (two containers of one name, two commands at once) the next number is used.
Hosts that share a store must have different names.
"""

import datetime as dt
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

from relay.errors import StartError

OPERATOR = "operator"  # the role of the command line

_SLOTS = 1000  # beyond these something else is wrong
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_NO_NAME = re.compile(r"[^A-Za-z0-9.-]")


class Held:
    """A chain that is ours until ``release``."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self.lock = lock  # the descriptor; closing it gives the chain up

    @property
    def name(self) -> str:
        """The chain's name."""
        return self.path.name

    def release(self) -> None:
        """Give it up."""
        os.close(self.lock)


def hold_chain(directory: Path, role: str) -> Held:
    """Take the chain of this process' slot, or the next that is free; makes it if need be.

    Raises StartError when no chain can be had.
    """
    slot = os.environ.get("OUTGATE_SLOT", "")
    first = int(slot) if slot.isdecimal() and slot.isascii() else 1
    host = _NO_NAME.sub("_", os.uname().nodename) or "localhost"
    try:
        for number in range(first, first + _SLOTS):
            path = directory / f"{host}.{role}.{number}"
            path.mkdir(mode=0o750, parents=True, exist_ok=True)
            if (held := try_hold(path)) is not None:
                return held
    except OSError as error:
        raise StartError(
            f"cannot write the audit trail in {directory}: {error.strerror}; "
            "make it a directory that the user of the services may write, or correct audit.directory"
        ) from error
    raise StartError(f"cannot write the audit trail in {directory}: every chain of {host} is held")


def try_hold(path: Path) -> Held | None:
    """Take a chain; None when somebody else has it. Raises OSError."""
    while True:
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Who takes a whole chain away holds its lock meanwhile: ours may be of what is gone.
            if os.path.samestat(os.fstat(lock), os.stat(path / "lock")):
                return Held(path, lock)
        except BlockingIOError:
            os.close(lock)
            return None
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)
        path.mkdir(mode=0o750, parents=True, exist_ok=True)


def list_chains(directory: Path) -> list[Path]:
    """Return the chains that there are, by name. Raises StartError."""
    try:
        return sorted(path for path in directory.iterdir() if path.is_dir())
    except OSError as error:
        raise StartError(f"cannot read {directory}: {error.strerror}") from error


def is_operators(name: str) -> bool:
    """Tell whether a chain is one of the command line."""
    return name.rsplit(".", 2)[1:2] == [OPERATOR]


def list_days(path: Path) -> list[str]:
    """Return the days that a chain has files of, oldest first. Raises OSError."""
    return sorted(file.stem for file in path.glob("*.jsonl") if _is_day(file.stem))


def _is_day(name: str) -> bool:
    try:
        return bool(_DAY.fullmatch(name)) and find_end(name) > 0
    except ValueError:
        return False


def find_file(path: Path, day: str) -> Path:
    """Return where a day of a chain is."""
    return path / f"{day}.jsonl"


def read_lines(file: Path, limit: int) -> Iterator[bytes]:
    """Yield the lines of a file, each with its line end, or without: torn, or longer than ``limit``.

    It ends where the file ended at the beginning: who writes it now must not be run after for ever.
    Raises OSError.
    """
    with file.open("rb", buffering=1 << 20) as stream:
        left = os.fstat(stream.fileno()).st_size
        readline = stream.readline
        while left > 0 and (line := readline(min(left, limit))):
            left -= len(line)
            yield line


def find_day(moment: float) -> str:
    """Return the day (UTC) of a time, seconds since 1970."""
    return dt.datetime.fromtimestamp(moment, dt.UTC).strftime("%Y-%m-%d")


def find_end(day: str) -> float:
    """Return when a day (UTC) ends, seconds since 1970. Raises ValueError for what is no day."""
    start = dt.datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=dt.UTC)
    return start.timestamp() + 86_400


def find_next(day: str) -> str:
    """Return the day after. Raises ValueError for what is no day."""
    return find_day(find_end(day))
