"""Of what scripts share each gets what it uses: nothing less, and not much more."""

import re
from importlib import resources
from importlib.resources.abc import Traversable

import pytest

from relay.store.scripts import SCRIPTS

FOLDERS = [
    folder for folder in (resources.files("relay.store") / "scripts").iterdir() if folder.is_dir()
]
CASES = [
    (folder, file.name.removesuffix(".lua"))
    for folder in FOLDERS
    for file in folder.iterdir()
    if file.name.endswith(".lua") and not file.name.startswith("_")
]
_DEFINED = re.compile(r"^local (?:function )?([A-Za-z_][\w, ]*)", re.MULTILINE)


def strip_comments(source: str) -> str:
    return re.sub(r"--.*", "", source)


def list_shared(folder: Traversable) -> set[str]:
    """Return the names that the folder's scripts share."""
    return {
        name
        for file in folder.iterdir()
        if file.name.startswith("_")
        for names in _DEFINED.findall(file.read_text("utf-8"))
        for name in re.findall(r"\w+", names)
    }


@pytest.mark.parametrize(("folder", "name"), CASES, ids=lambda case: getattr(case, "name", case))
def test_what_a_script_uses_is_in_front_of_it(folder: Traversable, name: str) -> None:
    shared = list_shared(folder)
    code = strip_comments(SCRIPTS[name].source.decode())
    defined: set[str] = set()
    for line in code.splitlines():
        if found := _DEFINED.match(line):
            defined |= set(re.findall(r"\w+", found[1]))
        missing = (set(re.findall(r"[A-Za-z_]\w*", line)) & shared) - defined
        # A name may be a field's or a parameter's as well, which needs nothing.
        assert not {one for one in missing if re.search(rf"(?<![.\w']){one}\(", line)}, line
        assert not {one for one in missing if one.isupper()}, line


def test_an_attempt_does_without_most_of_it() -> None:
    code = strip_comments(SCRIPTS["attempt"].source.decode())

    assert "pass_when_full" in code
    assert "read_slip" not in code
    assert "clock()" not in code


def test_what_stands_above_the_first_definition_is_comment() -> None:
    for folder in FOLDERS:
        for file in folder.iterdir():
            if file.name.startswith("_"):
                above, *_ = _DEFINED.split(file.read_text("utf-8"), maxsplit=1)
                assert not strip_comments(above).strip(), file.name
