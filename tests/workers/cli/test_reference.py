"""The reference of the configuration: it is what the code says, of every key, and stands in the tree."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from relay.config.load import read
from relay.config.schema import Config
from relay.config.section import Section
from relay.config.units import Endpoint, Octets, Rate, Rates, Seconds
from workers.cli.main import main
from workers.cli.reference import Table, find_tables, write_reference, write_value

DEPLOY = Path(__file__).parents[3] / "deploy"
TABLES = list(find_tables())
_HEAD = re.compile(r"^## (?:`\[+([\w.]+)\]+`|Above all tables)$|^- \*\*`(\w+)`\*\*", re.MULTILINE)
_MODULES = ("relay.config.schema", "relay.config.policy", "relay.config.running")
# In the example what has no default is commented out, without a space.
_EXAMPLE = re.compile(r"^#?\[+([\w.]+)\]+|^#?(\w+) = ", re.MULTILINE)


def find_keys(pattern: re.Pattern[str], text: str) -> set[str]:
    """Return TABLE.KEY of all keys."""
    table, keys = "", set()
    for found in pattern.finditer(text):
        if found[2]:
            keys.add(f"{table}.{found[2]}")
        else:
            table = found[1] or ""
    return keys


def test_the_page_in_the_tree_is_what_the_code_says() -> None:
    page = (DEPLOY / "CONFIGURATION.md").read_text("utf-8")
    assert page == write_reference(), "run `make reference`"


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--reference"]) == 0
    assert capsys.readouterr().out == write_reference()


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.title)
def test_everything_is_explained(table: Table) -> None:
    assert not table.title or all(table.texts)
    assert [key.name for key in table.keys if not key.text] == []


def test_every_key_of_the_example_is_in_it() -> None:
    text = (
        (DEPLOY / "outgate.example.toml").read_text("utf-8").replace("warmup.mine", "warmup.NAME")
    )
    named = {key for key in find_keys(_EXAMPLE, text) if not key.startswith("pool.default.")}

    assert len(named) > 150
    assert named - find_keys(_HEAD, write_reference()) == set()


def test_every_key_of_the_schema_is_in_it() -> None:
    """Each name of each class that the file's modules define."""
    keys = find_keys(_HEAD, write_reference())
    named = {part for key in keys for part in key.split(".")}
    sections = [one for one in _list_sections(Section) if one.__module__ in _MODULES]
    assert Config in sections
    for section in sections:
        for field in msgspec.structs.fields(section):
            assert field.name in named, f"{section.__name__}.{field.name}"
    # Twice in the file, as often here.
    assert {"site.connections", "site.source.connections", "delivery.connections"} <= keys


def _list_sections(section: type[Section]) -> list[type[Section]]:
    inner = section.__subclasses__()
    return [*inner, *(one for each in inner for one in _list_sections(each))]


def test_defaults_are_those_of_an_empty_file() -> None:
    """Written into a file, they make the configuration that no file makes."""
    lines = []
    for table in TABLES:
        if not table.title.startswith("[[") and not table.title.endswith(("NAME]", "rule.tag]")):
            if table.title == "[site.source]":
                continue
            lines += [table.title, *(f"{k.name} = {k.default}" for k in table.keys if k.default)]
    document = tomllib.loads("\n".join(lines))
    assert len(document) > 10

    made, base = read(document, base=Path("/"), environment={}), Path("/")
    assert made == read({}, base=base, environment={})


def test_what_the_machine_fills_in_is_called_a_default() -> None:
    plain, filled = Config(), read({}, base=Path("/"), environment={})
    for name in ("ingress", "tls_reports", "log"):
        before, after = getattr(plain, name), getattr(filled, name)
        keys = next(table for table in TABLES if table.title == f"[{name}]").keys
        for key in keys:
            if getattr(before, key.name) != getattr(after, key.name):
                assert "default: " in key.text.lower(), f"{name}.{key.name}"
    for title in ("[[source]]", "[pool.NAME]"):
        texts = next(table for table in TABLES if table.title == title).texts
        assert "Default: " in " ".join(texts)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (False, "false"),
        (0.85, "0.85"),
        (20_000, "20000"),
        ('a"b', r'"a\"b"'),
        (Seconds(0), "0"),
        (Seconds(0.5), "0.5"),
        (Seconds(90), '"90s"'),
        (Seconds(86400), '"1d"'),
        (Octets(50 << 20), '"50MiB"'),
        (Octets(1000), "1000"),
        (Endpoint("::1", 25), '"[::1]:25"'),
        (Rates((Rate(100, 1, 200),)), '"100/s burst 200"'),
        (Rates((Rate(100, 1), Rate(9, 86400))), '["100/s", "9/d"]'),
        ((Seconds(60), Seconds(300)), '["1m", "5m"]'),
        ((), "[]"),
    ],
)
def test_values_as_the_file_has_them(value: object, text: str) -> None:
    assert write_value(value) == text


def test_links_lead_to_headings() -> None:
    page = write_reference()
    anchors = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^## (.+)$", page, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) - anchors == set()
