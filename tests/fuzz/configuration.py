"""The configuration file: any octets are a configuration, or ConfigError, each problem with its path."""

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from relay.config import Config, load
from relay.errors import ConfigError

_EXAMPLE = Path(__file__).parents[2] / "deploy" / "outgate.example.toml"
_HOST = '[ingress]\nhostname = "mx.test"\n'  # or the machine would be asked for its name
SEEDS = [
    _EXAMPLE.read_bytes(),
    *(
        (_HOST + text).encode()
        for text in (
            '[[tenant]]\nname = "a"\ndomains = ["a.test"]\nnetworks = ["192.0.2.0/24"]\nrate = "9/s"',
            '[[rule]]\nname = "r"\naction = "reject"\nheader = [{name = "X", pattern = "(a+)+$"}]',
            '[[rule]]\nname = "r"\nattachment_names = ["*.exe"]\ntext = "no"',
            '[[site]]\nname = "s"\nmx = ["*.x.test"]\nrate = ["2/s burst 3", "9/d"]\nsource.connections = 1',
            '[[source]]\nname = "x"\naddress = "::1"\nproxy = "socks5://u@h:1"\n[pool.default]\nx = 3',
            '[store]\nurl = "redis://h"\nmemory_mark = nan\ntimeout = inf\nmax_memory = "1GiB"',
            '[[scanner]]\nname = "c"\nkind = "clamd"\naddress = "unix:/run/c"\n[[footer]]\nname = "f"\ntext = """x\n"""',
            '[archive]\ndirectory = "a\\u0000b"\nkey_file = "k"\n[archive.s3]\nbucket = "b"\nendpoint = "https://h"',
            '[pool."a\\nb"]\nx = 1\n["q\\u001b[2J"]\nx = 1979-05-27T07:32:00Z',
        )
    ),
    # Numbers that Python does not read, or cannot write; nesting that it gives up on; a long name.
    b"x = " + b"9" * 5000,
    b"store.max_memory = 0x" + b"f" * 4000,
    b"store.timeout = 0x" + b"f" * 400,
    b"store.memory_mark = 0x" + b"f" * 400,
    b"x = " + b"[" * 2000,
    b'archive.directory = "a"\narchive.key_file = "' + b"k" * 300 + b'"',
]
_FOLDER = tempfile.TemporaryDirectory(prefix="outgate-fuzz-")
_FILE = Path(_FOLDER.name) / "outgate.toml"

# "rule[3].header[0].name: expected ..."; what stands in quotes may be any text, without line ends.
_KEY = r"""(?:[A-Za-z0-9_-]+|"[^"\\]*(?:\\.[^"\\]*)*")(?:\[\d+\])?"""
_PROBLEM = re.compile(rf"{_KEY}(?:\.{_KEY})*: \S.*")


def check_problems(problems: Sequence[str]) -> None:
    """There is something wrong, and each thing is a line that says where."""
    assert problems
    for problem in problems:
        assert _PROBLEM.fullmatch(problem), problem
        assert problem.isprintable(), problem


def check(octets: bytes) -> None:
    """Nothing but ConfigError, and nothing in it that is not a line with a path."""
    _FILE.write_bytes(octets)
    try:
        config = load(str(_FILE), {})
    except ConfigError as error:
        _check_error(error)
    else:
        assert isinstance(config, Config)


def _check_error(error: ConfigError) -> None:
    start = f"{_FILE}: "
    assert all(problem.startswith(start) for problem in error.problems)
    found = [problem.removeprefix(start) for problem in error.problems]
    if len(found) != 1 or not found[0].startswith("is not TOML"):
        check_problems(found)
