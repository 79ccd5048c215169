"""File names, and what they are taken for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.pattern import compile_names
from relay.policy.names import list_forms

_EXE = compile_names(["*.exe"])


@pytest.mark.parametrize(
    "name",
    [
        "setup.exe",
        "SETUP.EXE",
        "setup.exe.",
        "setup.exe . .",
        " setup.exe ",
        "setup.exe\u00a0",
        "setup\uff0e\uff45\uff58\uff45",
        "setup\u2024exe",
        "invoice\u202efdp.exe",
        "\u202eexe.fdp",
        "a\u202eexe.fdp\u202cz\u202eexe.",
        "set\u200bup.e\u00adxe",
        "setup.ex\u2060e",
        "setup.e\u2028xe",
        "setup.exe\0.txt",
        "setup.\0exe",
        "setup.exe:Zone.Identifier",
        "setup.exe::$DATA",
        "setup.exe:a/b",
        "folder/setup.exe",
        "folder\\setup.exe",
        "fold.er/setup.exe/",
        "../../setup.exe",
        "setup.\r\nexe",
    ],
)
def test_program_by_another_name(name: str) -> None:
    assert _EXE.is_in("\n".join(list_forms(name)))


@pytest.mark.parametrize(
    "name", ["", " . ", "exe", "setup.exe.txt", "exe.setup", "setup.exem", "a.exe/b"]
)
def test_what_is_none(name: str) -> None:
    assert not _EXE.is_in("\n".join(list_forms(name)))


def test_pattern_fits_a_name_with_and_without_its_folder() -> None:
    forms = "\n".join(list_forms("docs/Plan.PDF"))

    assert compile_names(["docs/*"]).is_in(forms)
    assert compile_names(["plan.*"]).is_in(forms)


@given(st.text())
def test_form_is_one_line(name: str) -> None:
    forms = list_forms(name)

    assert 1 <= len(forms) <= 12
    assert not any(set(form) & set("\r\n\0") for form in forms)
