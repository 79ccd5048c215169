"""The scripts, in Lua: loading them, with the key functions and what their folder shares in front.

``scripts/queue`` holds the transitions of deliveries, ``scripts/gate`` what limits and shares. A
script sees ``TAG`` (the hash tag of KEYS[1]) and one function per shape of keys.py; it must touch no
other tag. Time inside a script is the server's; only ``make_scripts`` can give it another, for tests and
simulations.

Each call makes all functions anew that stand in a script. So of what is shared (``_prelude.lua``,
``_standing.lua``) a script gets only what it uses: an ``attempt`` took 8 us with all of it, and takes 3.
"""

import hashlib
import re
from collections.abc import Iterator
from importlib import resources

from relay.store.keys import ABSENT, SHAPES, WAKE_CHANNEL


class Script:
    """One script: its name, its source, and the digest the server knows it by."""

    __slots__ = ("digest", "name", "source")

    def __init__(self, name: str, source: bytes) -> None:
        self.name = name
        self.source = source
        self.digest = hashlib.sha1(source, usedforsecurity=False).hexdigest().encode("ascii")

    def __repr__(self) -> str:
        return f"<Script {self.name}>"


# The body of `clock`: milliseconds on the server's clock, the only one that limits and leases go by.
_SERVERS_CLOCK = """\
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
"""

_CALL = "local call = redis.call"
# What would be published is gathered, for the reply.
_OVERHEARD_CALL = """\
local function call(command, ...)
  if command ~= 'PUBLISH' then return redis.call(command, ...) end
  news[#news + 1] = select(2, ...)
  return 0
end"""
# nil would end the reply's table; false becomes the same null.
_OVERHEARD_REPLY = """
end
local reply = run()
if reply == nil then reply = false end
return { reply, news }
"""

# In a Cluster, while a slot moves from one node to another, a script that touches a key which is not on
# this node (any more, or yet: also one that is nowhere) is cut off where it stands, half done. So it
# asks before anything else for a key that is nowhere: refused, nothing has been done.
_GUARD = f"""\
if type(redis.pcall('EXISTS', TAG .. ':{ABSENT}')) == 'table' then
  return redis.error_reply('TRYAGAIN this part of the store moves to another node')
end
"""

# Where a piece of what is shared begins: at the top level, with the names that it defines.
_PIECE = re.compile(r"^local (?:function )?([A-Za-z_][\w, ]*)", re.MULTILINE)
_COMMENT = re.compile(r"--.*")
_WORD = re.compile(r"[A-Za-z_]\w*")


def _cut_pieces(shared: str) -> Iterator[tuple[frozenset[str], str]]:
    """Yield each definition at the top level: its names, its text."""
    places = list(_PIECE.finditer(shared))
    ends = [place.start() for place in places[1:]] + [len(shared)]
    for place, end in zip(places, ends, strict=True):
        yield frozenset(_WORD.findall(place[1])), shared[place.start() : end]


def _choose_pieces(shared: str, source: str) -> str:
    """Return the definitions that a script uses, and those that they use, in their order."""
    words = set(_WORD.findall(_COMMENT.sub("", source)))
    chosen: list[str] = []
    # From below: what is defined further up is used further down, and never the other way round.
    for names, text in reversed(list(_cut_pieces(_COMMENT.sub("", shared)))):
        if not names.isdisjoint(words):
            chosen.append(text)
            words.update(_WORD.findall(text))
    return "".join(reversed(chosen))


def _make_key_functions(source: str, call: str, clock: str, guard: str) -> str:
    """Return the functions that a script needs: making each costs every call."""
    lines = [
        call,
        "local TAG = string.match(KEYS[1], '^{[^}]+}')" + guard,
    ]
    if "WAKE" in source:
        lines.append(f"local WAKE = '{WAKE_CHANNEL}'")
    for name, parts in SHAPES.items():
        if f"{name}_key(" not in source:
            continue
        parameters = ", ".join("abc"[:parts])
        suffix = "".join(f" .. ':' .. {letter}" for letter in "abc"[:parts])
        lines.append(f"local function {name}_key({parameters}) return TAG .. ':{name}'{suffix} end")
    if "clock(" in source:
        lines.append(f"local function clock()\n{clock}end")
    return "\n".join(lines) + "\n"


def make_scripts(
    *, clock: str = _SERVERS_CLOCK, overheard: bool = False, guarded: bool = False
) -> dict[str, Script]:
    """Read the scripts, by name.

    ``clock``: Lua that returns the time, ms since 1970, where it is not the server's: the body of a
    function that has ``call`` and ``TAG``. ``overheard``: they publish nothing; each reply is a
    pair of what it was and a list of what would have been published. ``guarded``: for a Cluster; they
    do nothing while their slot moves.
    """
    guard = f"\n{_GUARD}" if guarded else ""
    call = _OVERHEARD_CALL if overheard else _CALL
    scripts = {}
    for folder in (resources.files("relay.store") / "scripts").iterdir():
        shared = "\n".join(
            file.read_text("utf-8")
            for file in sorted(folder.iterdir(), key=lambda file: file.name)
            if file.name.startswith("_")
        )
        for file in folder.iterdir():
            name = file.name.removesuffix(".lua")
            if file.name.endswith(".lua") and not name.startswith("_"):
                source = file.read_text("utf-8")
                source = f"{_choose_pieces(shared, source)}\n{source}"
                source = _make_key_functions(source, call, clock, guard) + source
                if overheard:
                    # All of it inside: a function that reaches out has 60 things to reach for.
                    source = f"local news = {{}}\nlocal function run()\n{source}{_OVERHEARD_REPLY}"
                scripts[name] = Script(name, source.encode("utf-8"))
    return scripts


SCRIPTS = make_scripts()
