"""Plays the dialogues of tests/dialogs; their form is explained there."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from relay.store.queue import Store
from tests.kit.visit import (
    Client,
    make_config,
    make_desk,
    read_id,
    read_parts,
    split_trace,
    visit,
)

DIALOGS = sorted((Path(__file__).parents[2] / "dialogs").glob("*.smtp"))


@dataclass(frozen=True)
class Line:
    """One line of a dialogue: who, how, what; ``number`` for complaints."""

    number: int
    who: str
    octets: bytes
    prefix: bool = False


def parse(text: str) -> tuple[dict[str, object], list[Line]]:
    """Return the settings and the lines."""
    settings: dict[str, object] = {}
    lines = []
    for number, line in enumerate(text.split("\n"), 1):
        who, sign, rest = line[:1], line[1:2], line[3:].encode()
        if who == "@":
            settings |= tomllib.loads(line[1:].strip())
        elif who in ("C", "S", "M") and sign == ":":
            lines.append(Line(number, who, rest + b"\r\n"))
        elif who == "S" and sign == "~":
            lines.append(Line(number, who, rest, prefix=True))
        elif who in ("C", "M") and sign == "\\":
            lines.append(Line(number, who, unescape(rest)))
        elif line == "X":
            lines.append(Line(number, who, b""))
        elif line and who != "#":
            raise ValueError(f"line {number}: {line!r}")
    return settings, lines


def unescape(octets: bytes) -> bytes:
    """Turn ``\\r \\n \\0 \\\\`` into what they mean."""
    parts = octets.split(b"\\\\")
    for sign, octet in ((b"\\r", b"\r"), (b"\\n", b"\n"), (b"\\0", b"\0")):
        parts = [part.replace(sign, octet) for part in parts]
    return b"\\".join(parts)


async def play(lines: list[Line], client: Client, store: Store) -> None:
    waiting = stored = accepted = b""
    for line in lines:
        if line.who == "C":
            waiting += line.octets
            continue
        if line.who == "M":
            stored += line.octets
            continue
        stored = await check_stored(stored, accepted, store)
        if waiting:
            await client.send(waiting)
            waiting = b""
        reply = await client.read_line()
        good = reply.startswith(line.octets) if line.prefix else reply == line.octets
        assert good, f"line {line.number}: the server says {reply!r}"
        if reply.startswith(b"250 2.0.0 0") and len(reply) == 36:
            accepted = reply
    await check_stored(stored, accepted, store)
    if waiting:
        await client.send(waiting)


async def check_stored(expected: bytes, accepted: bytes, store: Store) -> bytes:
    if expected:
        parts = await read_parts(store, read_id(accepted))
        assert split_trace(b"".join(parts))[1] == expected
    return b""


@pytest.mark.parametrize("path", DIALOGS, ids=[path.stem for path in DIALOGS])
async def test_dialogue(path: Path, tmp_path: Path, store: Store) -> None:
    settings, lines = parse(path.read_text("utf-8"))
    assert lines[0].who == "S", "a dialogue begins with the greeting"
    desk = make_desk(make_config(tmp_path, **settings), store)

    with trio.fail_after(10):
        async with visit(desk, greeted=False) as client:
            await play(lines, client, store)


def test_there_are_dialogues() -> None:
    assert DIALOGS


def test_the_form_of_dialogues() -> None:
    settings, lines = parse("# no\n@ x = 1\nC: a\nC\\ b\\r\\n\\0\\\\n\nS: c\nS~ d\nX\nM:\n")

    assert settings == {"x": 1}
    assert [(line.who, line.octets, line.prefix) for line in lines] == [
        ("C", b"a\r\n", False), ("C", b"b\r\n\0\\n", False), ("S", b"c\r\n", False),
        ("S", b"d", True), ("X", b"", False), ("M", b"\r\n", False),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="line 1"):
        parse("c: lower case")
