"""What the documents show works: configurations are read, commands exist, files are there."""

import re
import tomllib
from pathlib import Path

import pytest

from relay.config.schema import Config
from relay.config.shape import find_mismatches
from workers.cli.main import _COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.partition("\n")[0])
def test_configurations_of_the_readme_have_the_right_keys(block: str) -> None:
    assert list(find_mismatches(tomllib.loads(block), Config)) == []


def test_commands_of_the_readme_exist() -> None:
    named = set(re.findall(r"outgate ([a-z]+)", README)) - {"up"}

    assert len(named) > 10
    assert {name for name in named if name not in _COMMANDS} <= {"any", "has", "is"}


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_what_documents_link_to_is_there(name: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / name).read_text("utf-8"))

    assert [link for link in links if not (ROOT / link).exists()] == []


def test_files_that_the_architecture_names_are_there() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    named = set(re.findall(r"`(?:[a-z]+/)*([a-z_]+\.(?:py|lua|toml))`", text))
    there = {
        path.name for folder in ("relay", "workers", "tests") for path in (ROOT / folder).rglob("*")
    }

    assert named - there == set()
