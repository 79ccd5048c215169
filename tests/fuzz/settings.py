"""Configurations made of the schema: right and wrong values of each key, keys that are none.

Other than ``configuration`` this knows what keys there are. The octets are Hypothesis' choices.
"""

import datetime as dt
import types
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.config import Config, read
from relay.config.load import read_sites
from relay.config.units import Endpoint, Octets, Rates, Seconds
from relay.errors import ConfigError
from tests.fuzz.configuration import check_problems

Values = st.SearchStrategy[Any]

# The names that tables give each other are few, so that references meet.
_TEXTS = st.sampled_from(
    [
        *("", "a", "b", "default", "google", "acme.example", "a@acme.example", "*@acme.example", "*"),
        *("*.exe", "(a+)+$", "[z-a]", "(", "image/*", "\xe4", "X-Header", "From", "clean", "infected"),
        *("192.0.2.0/24", "::1", "127.0.0.1:25", "unix:/run/x", "redis://h", "https://h/x", "file"),
        *("socks5://u@h:1080", "haproxy://h:1", "a" * 300, "a/" * 2500, "line\nline", "\0", "\x1b[2J"),
        *("\u202e", "\u2028", " ", ".", "/", "/dev/null", '"', "\\", "a: b"),
    ]
) | st.text(max_size=20)  # fmt: skip
_NUMBERS = st.sampled_from([0, 1, 3, 64, 1000, 65_536, 1 << 30]) | st.integers(-5, 100_000)
_HUGE = st.sampled_from(
    [2**63 - 1, 2**63, -(2**63) - 1, 10**400, 1e308, float("inf"), float("nan"), -0.0]
)
_WRONG = st.recursive(
    st.one_of(
        _TEXTS, _HUGE, _NUMBERS, st.booleans(), st.floats(),
        st.sampled_from([dt.date(2026, 1, 1), dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.time(1)]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
_DEEP = st.sampled_from([50, 300]).map(lambda depth: nest(depth))
_KINDS: dict[object, Values] = {
    str: _TEXTS,
    bool: st.booleans(),
    int: _NUMBERS,
    float: _NUMBERS | st.floats(-10, 1e6),
    Seconds: st.sampled_from(["30s", "5m", "1.5h", "10ms", "0d", 5, 0, 1.5]),
    Octets: st.sampled_from(["50MiB", "64KiB", "1GiB", 70_000, 0, "3 B"]),
    Rates: st.sampled_from(["9/s", "500/m burst 20", ["2/s", "9/d"], "1/h"]),
    Endpoint: st.sampled_from(["127.0.0.1:25", "[::1]:2525", "mx.test:0"]),
}


def nest(depth: int) -> object:
    """Return lists in lists."""
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@cache
def values(wanted: Any) -> Values:
    """Make what a key of this type may be given, most of it right."""
    right = _right_values(wanted)
    return st.integers(0, 19).flatmap(
        lambda chance: _WRONG if chance == 19 else _DEEP if chance == 18 else right
    )


def _right_values(wanted: Any) -> Values:
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        return values(next(one for one in inner if one is not type(None)))
    if origin is tuple:
        return st.lists(st.deferred(lambda: values(inner[0])), max_size=3)
    if origin is dict:
        return st.dictionaries(_TEXTS, st.deferred(lambda: values(inner[1])), max_size=3)
    if origin is Literal:
        return st.sampled_from(inner)
    return _KINDS[wanted] if wanted in _KINDS else tables(wanted)


@st.composite
def tables(draw: st.DrawFn, kind: type[msgspec.Struct]) -> dict[str, object]:
    """Make a table of the schema: a few of its keys, those that it must have, perhaps others."""
    fields = msgspec.structs.fields(kind)
    chosen = draw(st.lists(st.sampled_from(fields), max_size=4, unique_by=lambda one: one.name))
    chosen += [one for one in fields if one.required and one not in chosen]
    table: dict[str, object] = {one.name: draw(values(one.type)) for one in chosen}
    if draw(st.integers(0, 19)) == 19:
        table[draw(_TEXTS)] = draw(_WRONG)
    if table and draw(st.integers(0, 19)) == 19:
        del table[draw(st.sampled_from(sorted(table)))]
    return table


def documents() -> st.SearchStrategy[dict[str, object]]:
    """Make a parsed document, as tomllib would return it."""
    return tables(Config)


def check_document(document: dict[str, object]) -> None:
    """A Config, or ConfigError with a line and a path for each problem."""
    ingress = document.setdefault("ingress", {})
    if isinstance(ingress, dict):
        ingress.setdefault("hostname", "mx.test")  # or the machine would be asked for its name
    _check(lambda: read(document, base=Path("/nonexistent"), environment={}))
    _check(lambda: read_sites({"site": document.get("site", [])}))


def _check(reads: Callable[[], object]) -> None:
    try:
        reads()
    except ConfigError as error:
        check_problems(error.problems)


@settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(documents())
def _run(document: dict[str, object]) -> None:
    check_document(document)


SEEDS = [bytes(200), bytes(range(256)), b"\xff" * 100, bytes(range(255, 0, -1)) * 4]


def check(octets: bytes) -> None:
    """``check_document``, of the document that these choices make."""
    _run.hypothesis.fuzz_one_input(octets)
