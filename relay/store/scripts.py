"""The transitions, one Lua script each: loading them, with the key functions in front.

A script sees ``TAG`` (its shard's hash tag, from KEYS[1]) and one function per shape of keys.py;
it must touch no other shard. Time inside a script is the server's.
"""

import hashlib
from importlib import resources

from relay.store.keys import SHAPES


class Script:
    """One transition: its name, its source, and the digest the server knows it by."""

    __slots__ = ("digest", "name", "source")

    def __init__(self, name: str, source: bytes) -> None:
        self.name = name
        self.source = source
        self.digest = hashlib.sha1(source, usedforsecurity=False).hexdigest().encode("ascii")

    def __repr__(self) -> str:
        return f"<Script {self.name}>"


def _make_key_functions() -> str:
    lines = ["local TAG = string.match(KEYS[1], '^{[^}]+}')"]
    for name, parts in SHAPES.items():
        parameters = ", ".join("abc"[:parts])
        suffix = "".join(f" .. ':' .. {letter}" for letter in "abc"[:parts])
        lines.append(f"local function {name}_key({parameters}) return TAG .. ':{name}'{suffix} end")
    return "\n".join(lines) + "\n"


def _load() -> dict[str, Script]:
    folder = resources.files("relay.store") / "scripts"
    prelude = _make_key_functions() + (folder / "_prelude.lua").read_text("utf-8")
    scripts = {}
    for file in folder.iterdir():
        name = file.name.removesuffix(".lua")
        if file.name.endswith(".lua") and not name.startswith("_"):
            source = f"{prelude}\n{file.read_text('utf-8')}"
            scripts[name] = Script(name, source.encode("utf-8"))
    return scripts


SCRIPTS = _load()
