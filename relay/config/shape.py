"""Does a parsed document have the shape that the schema describes? In words for people.

msgspec would check it too, but it stops at the first problem and speaks of types. This walks the
whole document: every problem, each with its path and what was expected there.
"""

import difflib
import json
import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

import msgspec

from relay.config.shapes import write_key
from relay.config.units import (
    Endpoint,
    Octets,
    Rates,
    Seconds,
    parse_endpoint,
    parse_octets,
    parse_rates,
    parse_seconds,
)

TypeForm = Any  # a class, or something like tuple[X, ...]: it has no type in Python 3.11

PARSERS = {
    Seconds: parse_seconds,
    Octets: parse_octets,
    Rates: parse_rates,
    Endpoint: parse_endpoint,
}

# TOML has no others. Python does, and can neither write the longest nor make floats of them.
_INTEGERS = 1 << 63

_SCALARS: dict[type, tuple[tuple[type, ...], str]] = {
    str: ((str,), "a text in quotes"),
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
}


def find_mismatches(value: object, wanted: TypeForm, path: str = "") -> Iterator[str]:
    """Yield a line for each place where ``value`` is not what the type ``wanted`` says."""
    wanted = strip_none(wanted)
    origin: object = get_origin(wanted)
    inner = get_args(wanted)
    if isinstance(value, int) and not -_INTEGERS <= value < _INTEGERS:
        yield f"{path}: expected a number that fits into 64 bits"
        return
    if parser := PARSERS.get(wanted):
        try:
            parser(value)
        except ValueError as error:
            yield f"{path}: {error}"
    elif origin is tuple:
        yield from _in_list(value, inner[0], path)
    elif origin is dict:
        yield from _in_named(value, inner[1], path)
    elif origin is Literal:
        if value not in inner:
            yield f"{path}: expected {' or '.join(map(_show, inner))}, got {_show(value)}"
    elif issubclass(wanted, msgspec.Struct):
        yield from _in_table(value, wanted, path)
    else:
        kinds, words = _SCALARS[wanted]
        # To Python true and false are numbers; to people they are not.
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            yield f"{path}: expected {words}, got {_show(value)}"


def _in_list(value: object, inner: TypeForm, path: str) -> Iterator[str]:
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from find_mismatches(item, inner, f"{path}[{number}]")
    elif isinstance(inner, type) and issubclass(inner, msgspec.Struct):
        yield f"{path}: expected tables headed [[{path}]], got {_show(value)}"
    else:
        yield f"{path}: expected a list in [ ], got {_show(value)}"


def _in_named(value: object, inner: TypeForm, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: expected a table, got {_show(value)}"
        return
    for name, item in value.items():
        yield from find_mismatches(item, inner, f"{path}.{write_key(name)}")


def _in_table(value: object, wanted: type[msgspec.Struct], path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: expected a table, got {_show(value)}"
        return
    dot = f"{path}." if path else ""
    fields = {field.name: field for field in msgspec.structs.fields(wanted)}
    for name, item in value.items():
        if name in fields:
            yield from find_mismatches(item, fields[name].type, f"{dot}{name}")
        else:
            close = difflib.get_close_matches(name, fields, n=1)
            meant = f"; did you mean {close[0]}?" if close else ""
            yield f"{dot}{write_key(name)}: unknown key{meant}"
    for name, field in fields.items():
        if field.required and name not in value:
            yield f"{dot}{name}: missing"


def strip_none(wanted: TypeForm) -> TypeForm:
    """``X | None`` means that the key may be left out; TOML has no null to write."""
    origin: object = get_origin(wanted)
    if origin in (Union, types.UnionType):
        return next(one for one in get_args(wanted) if one is not type(None))
    return wanted


def _show(value: object) -> str:
    """Write a value as the file has it, more or less."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
