"""The rules of ARCHITECTURE.md that a program can check, read off the source."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from relay.store.keys import SHAPES

ROOT = Path(__file__).parents[1]
PACKAGES = ("relay", "workers")
MAX_FUNCTION = 60  # lines, without the docstring
MAX_MODULE = 450  # lines with code or comment, without docstrings

# The protocol has no I/O, no time and no chance in it: that is what makes it testable.
_NO_PROTOCOL = {
    "asyncio", "multiprocessing", "os", "random", "secrets", "select", "selectors", "signal",
    "socket", "ssl", "subprocess", "threading", "time",
}  # fmt: skip

MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path): path for path in MODULES}
each_module = pytest.mark.parametrize("path", MODULES, ids=name_of)


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def find_imports(path: Path, tree: ast.AST) -> Iterator[str]:
    """Yield the modules that these statements import: those of ours in full, others as written."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in NAMES else node.module


@cache
def imports_of(path: Path) -> frozenset[str]:
    return frozenset(find_imports(path, parse(path)))


@each_module
def test_the_relay_does_not_know_the_workers(path: Path) -> None:
    if name_of(path).startswith("relay"):
        assert not [name for name in imports_of(path) if name.split(".")[0] == "workers"]


@each_module
def test_the_protocol_imports_the_standard_library_only(path: Path) -> None:
    if not name_of(path).startswith("relay.smtp"):
        return
    for name in imports_of(path):
        top = name.split(".")[0]
        if top == "relay":
            assert name.startswith("relay.smtp")
        else:
            assert top in sys.stdlib_module_names - _NO_PROTOCOL, name


@each_module
def test_only_the_store_knows_redis(path: Path) -> None:
    if not name_of(path).startswith("relay.store"):
        assert not [name for name in imports_of(path) if name.split(".")[0] in ("redis", "hiredis")]


@each_module
def test_nobody_uses_another_loop(path: Path) -> None:
    others = {"asyncio", "gevent", "anyio", "twisted"}
    assert not [name for name in imports_of(path) if name.split(".")[0] in others]


@each_module
def test_only_the_command_line_stands_above_both_services(path: Path) -> None:
    if not name_of(path).startswith("workers.cli"):
        assert not [name for name in imports_of(path) if name.startswith("workers.cli")]


def test_imports_have_no_circles() -> None:
    graph = {
        name: {
            target
            for target in imports_of(path)
            if target in NAMES and target != name and not name.startswith(target + ".")
        }
        for name, path in NAMES.items()
    }

    # Take away, again and again, what imports nothing that is left; a circle stays.
    while free := {name for name, targets in graph.items() if not targets & graph.keys()}:
        graph = {name: targets for name, targets in graph.items() if name not in free}

    assert not graph, f"in circles, or above them: {sorted(graph)}"


Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = Function | ast.ClassDef | ast.Module


def count_docstring(node: Documented) -> int:
    """Return the lines of a docstring, 0 without one."""
    if ast.get_docstring(node, clean=False) is None:
        return 0
    first = node.body[0]
    return (first.end_lineno or first.lineno) - first.lineno + 1


@each_module
def test_functions_are_short(path: Path) -> None:
    for node in ast.walk(parse(path)):
        if isinstance(node, Function):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1 - count_docstring(node)
            assert lines <= MAX_FUNCTION, f"{node.name} has {lines} lines"


@each_module
def test_modules_are_short(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    for node in ast.walk(parse(path)):
        if isinstance(node, Documented) and (length := count_docstring(node)):
            start = node.body[0].lineno - 1
            lines[start : start + length] = [""] * length
    assert sum(bool(line.strip()) for line in lines) <= MAX_MODULE


_KEY = re.compile(r"\{?og[0-9]*\}?:|\{og")


@each_module
def test_keys_are_spelt_in_one_place(path: Path) -> None:
    if name_of(path) == "relay.store.keys":
        return
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(parse(path))
        if isinstance(node, Documented) and count_docstring(node)
        and isinstance(node.body[0], ast.Expr)
    }  # fmt: skip
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Constant) and id(node) not in docstrings:
            value = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
            if isinstance(value, str):
                assert not _KEY.match(value), f"line {node.lineno}: {value!r}"


@each_module
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(parse(path))


# -- RFC.md

_CITATION = re.compile(r"RFC (\d+)")
_ROW = re.compile(r"^\| (\d+) \| (\S*) \| (.+) \|$", re.MULTILINE)


@cache
def read_table() -> dict[str, str]:
    """Return RFC number -> yes, part or no."""
    rows = _ROW.findall((ROOT / "relay/smtp/RFC.md").read_text("utf-8"))
    numbers = [number for number, _, _ in rows]
    assert numbers == sorted(set(numbers), key=int), "one row each, in order"
    return {number: status for number, status, _ in rows}


def find_citations(paths: list[Path]) -> set[str]:
    return {number for path in paths for number in _CITATION.findall(path.read_text("utf-8"))}


def test_every_rfc_that_the_protocol_cites_is_in_the_table() -> None:
    protocol = [path for path in MODULES if path.parent.name == "smtp"]

    assert find_citations(protocol) - read_table().keys() == set()


def test_what_the_table_calls_implemented_is_cited_where_it_is() -> None:
    table = read_table()

    assert set(table.values()) == {"yes", "part", "no"}
    done = {number for number, status in table.items() if status != "no"}
    assert done - find_citations(MODULES) == set()


def test_there_is_something_to_check() -> None:
    assert len(MODULES) > 50
    assert len(read_table()) > 10


# -- ARCHITECTURE.md


def test_the_key_table_names_every_key() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    table = text[text.index("## Keys in Redis") : text.index("## States of a delivery")]
    named = set(re.findall(r"`([a-z_]+)[:`]", table))

    assert SHAPES.keys() <= named
