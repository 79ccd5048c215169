"""The reference of the configuration file, as Markdown: each key with type, default and explanation.

All of it is read off the schema (``relay.config.schema``): types and defaults from the classes,
explanations from their docstrings and from the comments above and beside each field.
"""

import ast
import inspect
import io
import json
import re
import sys
import textwrap
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args, get_origin

import msgspec

from relay.config.schema import Config
from relay.config.section import Section
from relay.config.shape import TypeForm, strip_none
from relay.config.units import Endpoint, Octets, Rate, Rates, Seconds, parse_rate

_WIDTH = 100
_INTRODUCTION = """\
# The configuration file

<!-- Made from the code by `make reference`; change the comments in relay/config there. -->

Every key, with its type, its default and what it does. Each has a default or may be left out, but for
those that are called required. An unknown key is an error; `outgate check -c outgate.toml` says what is
wrong with a file, and `outgate check --reference` prints this page as of the version that is installed.
A file with all keys, to copy from, is [outgate.example.toml](outgate.example.toml).

```toml
[ingress]
listen = ["0.0.0.0:25"]
hostname = "gateway.example.net"

[ingress.tls]
certificate = "tls/fullchain.pem"
key = "tls/key.pem"

[[tenant]]                       # two brackets: there may be several
name = "acme"
domains = ["acme.example"]
proof = ["dkim"]

[[source]]
name = "a"
address = "192.0.2.11"
ehlo = "a.out.example.net"
```
"""

_WORDS: dict[object, tuple[str, str]] = {
    str: ("text", "texts"),
    bool: ("true or false", "true or false"),
    int: ("whole number", "whole numbers"),
    float: ("number", "numbers"),
    Seconds: ("duration", "durations"),
    Octets: ("size", "sizes"),
    Rates: ("rate, or list of rates", "rates"),
    Endpoint: ("address with port", "addresses with ports"),
}
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_OCTETS = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10}
_WEIGHT = "The weight of a source, by its name."
# What is code in the text: `so`, "a value", [table].
_CODE = re.compile(r'`[^`]+`|"[^"]*"|\[\[?[A-Za-z_.]+\]?\]|\b(?:[a-z]+\.)?[a-z]+_[a-z_]+\b')


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a table. ``default``: as one writes it in TOML; "": there is none."""

    name: str
    kind: str
    default: str
    required: bool
    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the file. ``title``: as it is headed there, "" for what stands above all."""

    title: str
    texts: tuple[str, ...]
    keys: tuple[Key, ...]


def write_reference() -> str:
    """Return the whole page."""
    tables = list(find_tables())
    return "\n".join([_INTRODUCTION, *_write_kinds(), *_write_contents(tables), *_write(tables)])


def find_tables() -> Iterator[Table]:
    """Yield all tables, in the order of the schema, each before those inside it."""
    yield from _walk(Config, "", "", "")


def _walk(section: type[Section], path: str, title: str, note: str) -> Iterator[Table]:
    """Yield a table, and those inside it. ``note``: what stands at the field that holds it."""
    texts = [*_find_paragraphs(section), *([note] if note else [])] if path else []
    keys, inner = [], []
    for field, text in _list_fields(section):
        place = f"{path}.{field.name}".lstrip(".")
        wanted = strip_none(field.type)
        origin: object = get_origin(wanted)
        kind = get_args(wanted)[-1] if origin is dict else _find_item(wanted)
        if origin is dict:
            place = f"{place}.NAME"
        if _is_section(kind):
            heading = f"[[{place}]]" if origin is tuple else f"[{place}]"
            inner.append(_walk(kind, place, heading, text))
        elif origin is dict:
            number = Key("SOURCE", _name_kind(get_args(kind)[1]), "", False, _WEIGHT)
            inner.append(iter([Table(f"[{place}]", (text,), (number,))]))
        else:
            default = "" if field.required else write_value(_find_default(field))
            keys.append(Key(field.name, _name_kind(wanted), default, field.required, text))
    yield Table(title, tuple(texts), tuple(keys))
    for tables in inner:
        yield from tables


# -- what the source says -----------------------------------------------------------------------


def _list_fields(section: type[Section]) -> Iterator[tuple[msgspec.structs.FieldInfo, str]]:
    """Yield fields and their explanations: a class' own before those that it has inherited."""
    fields = {field.name: field for field in msgspec.structs.fields(section)}
    for one in section.__mro__:
        if _is_section(one) and one is not Section:
            comments = _read_comments(one.__module__).get(one.__name__, {})
            for name, text in comments.items():
                if name in fields:
                    yield fields.pop(name), text


@cache
def _read_comments(module: str) -> dict[str, dict[str, str]]:
    """Return for each class of a module, and each of its fields, the comments above and beside it."""
    source = inspect.getsource(sys.modules[module])
    lines = source.splitlines()
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and "noqa" not in token.string
    }
    return {
        node.name: {
            field.target.id: _collect(comments, lines, field)
            for field in node.body
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        }
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef)
    }


def _collect(comments: dict[int, str], lines: list[str], field: ast.AnnAssign) -> str:
    first = field.lineno
    while lines[first - 2].lstrip().startswith("#"):
        first -= 1
    numbers = range(first, (field.end_lineno or field.lineno) + 1)
    return _polish(" ".join(comments[number] for number in numbers if number in comments))


def _find_paragraphs(section: type[Section]) -> list[str]:
    text = inspect.getdoc(section) or ""
    return [_polish(" ".join(paragraph.split())) for paragraph in text.split("\n\n")]


def _polish(text: str) -> str:
    """Make a sentence of a comment, with what is code marked as code."""
    if not text:
        return ""
    text = _CODE.sub(lambda found: f"`{found[0].strip('`')}`", text.replace("``", "`"))
    # "true: ..." and the like begin with a word of the file.
    if not re.match(r"\w+:", text):
        text = text[0].upper() + text[1:]
    return text if text[-1] in ".:" else f"{text}."


# -- types and values ---------------------------------------------------------------------------


def _is_section(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


def _find_item(wanted: TypeForm) -> TypeForm:
    origin: object = get_origin(wanted)
    return get_args(wanted)[0] if origin is tuple else wanted


def _name_kind(wanted: TypeForm) -> str:
    """Return a type in words."""
    item = _find_item(wanted)
    is_list = item is not wanted
    origin: object = get_origin(item)
    if origin is Literal:
        words = [f"`{json.dumps(word)}`" for word in get_args(item) if word]
        text = ", ".join(words[:-1]) + (" or " if words[1:] else "") + words[-1]
        return f"list of {text}" if is_list else text
    return f"list of {_WORDS[item][1]}" if is_list else _WORDS[item][0]


def _find_default(field: msgspec.structs.FieldInfo) -> object:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


def write_value(value: object) -> str:
    """Return a value as one writes it in TOML; "" for what is left out there."""
    match value:
        case None | "":
            return ""
        case bool():
            return "true" if value else "false"
        case tuple():
            return f"[{', '.join(map(write_value, value))}]"
        case Rates():
            text = [json.dumps(_write_rate(rate)) for rate in value.windows]
            return text[0] if len(text) == 1 else f"[{', '.join(text)}]"
        case Seconds():
            return _write_number(value, _SECONDS)
        case Octets():
            return _write_number(value, _OCTETS)
        case Endpoint():
            return json.dumps(repr(value))
        case _:
            return json.dumps(value)


def _write_number(value: float, units: dict[str, int]) -> str:
    for unit, size in units.items():
        if value and value % size == 0:
            return f'"{int(value // size)}{unit}"'
    return f"{value:g}"


def _write_rate(rate: Rate) -> str:
    """Leave out a burst that it has anyway."""
    short = repr(rate).partition(" ")[0]
    return short if parse_rate(short) == rate else repr(rate)


# -- the page -----------------------------------------------------------------------------------


def _write_kinds() -> Iterator[str]:
    yield "How values are written:\n"
    for kind in (Seconds, Octets, Rate, Rates, Endpoint):
        text = " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())
        yield _wrap(_polish(text), "- ")
    yield _wrap("Paths of files are relative to the configuration file.", "- ")
    yield ""


def _write_contents(tables: list[Table]) -> Iterator[str]:
    yield "## Contents\n"
    for table in tables:
        name = table.title.strip("[]")
        if name:
            # GitHub makes the anchor from the heading: lower case, without brackets and dots.
            anchor = name.lower().replace(".", "")
            depth = "  " * name.replace(".NAME", "").count(".")
            yield f"{depth}- [`{table.title}`](#{anchor}): {_find_summary(table)}"
    yield ""


def _find_summary(table: Table) -> str:
    """Return the first sentence."""
    return re.split(r"(?<=\.) |(?<=[^.]): ", table.texts[0])[0].rstrip(".")


def _write(tables: list[Table]) -> Iterator[str]:
    for table in tables:
        yield f"## `{table.title}`\n" if table.title else "## Above all tables\n"
        for text in table.texts:
            yield f"{_wrap(text)}\n"
        for key in table.keys:
            yield f"- {_write_head(key)}"
            yield f"\n{_wrap(key.text, '  ')}\n" if key.text else ""


def _write_head(key: Key) -> str:
    if key.default:
        return f"**`{key.name}`** = `{key.default}` ({key.kind})"
    return f"**`{key.name}`** ({key.kind}{', required' if key.required else ''})"


def _wrap(text: str, start: str = "") -> str:
    indent = " " * len(start)
    return textwrap.fill(
        text, _WIDTH, initial_indent=start, subsequent_indent=indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
