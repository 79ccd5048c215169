"""The scripts, in Lua: loading them, with the key functions and their folder's prelude in front.

``scripts/queue`` holds the transitions of deliveries, ``scripts/gate`` what limits and shares. A
script sees ``TAG`` (the hash tag of KEYS[1]) and one function per shape of keys.py; it must touch no
other tag. Time inside a script is the server's. ``_standing.lua`` is in front of the scripts that look
at a source's standing, and of no others.
"""

import hashlib
from importlib import resources

from relay.store.keys import SHAPES, WAKE_CHANNEL


class Script:
    """One script: its name, its source, and the digest the server knows it by."""

    __slots__ = ("digest", "name", "source")

    def __init__(self, name: str, source: bytes) -> None:
        self.name = name
        self.source = source
        self.digest = hashlib.sha1(source, usedforsecurity=False).hexdigest().encode("ascii")

    def __repr__(self) -> str:
        return f"<Script {self.name}>"


# Milliseconds on the server's clock: the only clock that limits and leases go by.
_CLOCK = """\
local function clock()
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
"""


_STANDING = "read_standing("


def _make_key_functions(source: str) -> str:
    """Return the functions that a script needs: making each costs every call."""
    lines = [
        "local call = redis.call",
        "local TAG = string.match(KEYS[1], '^{[^}]+}')",
        f"local WAKE = '{WAKE_CHANNEL}'",
    ]
    for name, parts in SHAPES.items():
        if f"{name}_key(" not in source:
            continue
        parameters = ", ".join("abc"[:parts])
        suffix = "".join(f" .. ':' .. {letter}" for letter in "abc"[:parts])
        lines.append(f"local function {name}_key({parameters}) return TAG .. ':{name}'{suffix} end")
    return "\n".join(lines) + "\n" + _CLOCK


def _load() -> dict[str, Script]:
    scripts = {}
    for folder in (resources.files("relay.store") / "scripts").iterdir():
        prelude = (folder / "_prelude.lua").read_text("utf-8")
        for file in folder.iterdir():
            name = file.name.removesuffix(".lua")
            if file.name.endswith(".lua") and not name.startswith("_"):
                source = file.read_text("utf-8")
                if _STANDING in source:
                    source = (folder / "_standing.lua").read_text("utf-8") + "\n" + source
                source = f"{prelude}\n{source}"
                source = _make_key_functions(source) + source
                scripts[name] = Script(name, source.encode("utf-8"))
    return scripts


SCRIPTS = _load()
