"""Patterns: what they mean, what they refuse, and how long they take at worst."""

import fnmatch
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.pattern import MAX_PROGRAM, Pattern, compile_names, normalise


@pytest.mark.parametrize(
    ("pattern", "text", "is_in"),
    [
        ("confidential", "Strictly CONFIDENTIAL!", True),
        ("confidential", "confident", False),
        (r"\b\d{4}-\d{4}\b", "card 1234-5678.", True),
        ("^grüsse$", "GRÜSSE", True),
        ("a|b", "xbx", True),
        ("(a)(b)?", "xaz", True),
        ("a.c", "a\nc", False),
        ("", "anything", True),
    ],
)
def test_pattern_is_searched_without_case(pattern: str, text: str, is_in: bool) -> None:
    assert Pattern(pattern).is_in(text) is is_in


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(", "missing )"),
        ("[z-a]", "invalid character class range"),
        (r"(a)\1", "invalid escape sequence"),
        ("(?=a)", "invalid perl operator"),
        ("a{1000}b{1000}c{1000}", "too large: 3004 steps"),
        ("(a{1000}){1000}", "invalid repetition size"),
        ("\ud800", "not text"),
    ],
)
def test_pattern_that_cannot_be_searched_in_linear_time_is_refused(pattern: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said.replace(')', '.')}"):
        Pattern(pattern)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(.*a){40}b", "(a{0,100}){0,9}b"])
def test_search_ends_whatever_a_stranger_writes(pattern: str) -> None:
    compiled = Pattern(pattern)
    assert compiled.program <= MAX_PROGRAM

    start = time.perf_counter()
    compiled.is_in("a" * 65_535 + "!")

    # Python's own would go on beyond the end of the sun.
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("*.exe", "setup.EXE", True),
        ("*.exe", "setup.exe.txt", False),
        ("*.exe", "exe", False),
        ("invoice?.zip", "invoice1.zip", True),
        ("invoice?.zip", "invoice.zip", False),
        ("a[0-9b]", "a7", True),
        ("a[!0-9]", "a7", False),
        ("a[!0-9]", "ax", True),
        ("[]]", "]", True),
        ("[!]]", "]", False),
        ("a[", "a[", True),
        ("a.c", "abc", False),
        (r"a\d", "a1", False),
        ("(x|y)*", "(x|y)z", True),
        ("*.\uff25\uff38\uff25", "setup.exe", True),
        ("straße*", "STRASSE.txt", True),
    ],
)
def test_pattern_of_names(pattern: str, name: str, fits: bool) -> None:
    assert compile_names([pattern]).is_in(normalise(name)) is fits


def test_names_are_lines_of_their_own() -> None:
    assert compile_names(["*.exe"]).is_in("a.txt\nb.exe\nc.txt")
    assert not compile_names(["a*c", "a[!x]c"]).is_in("a\nc")


def test_any_of_several_patterns_fits() -> None:
    compiled = compile_names(["*.exe", "*.js"])

    assert [compiled.is_in(name) for name in ("a.exe", "b.js", "c.txt")] == [True, True, False]


_LETTERS = st.text("ab.[]!-*?\\^", max_size=8)


@given(_LETTERS, st.text("ab.]!-\\^", max_size=8))
def test_pattern_of_names_means_what_it_means_to_fnmatch(pattern: str, name: str) -> None:
    try:
        compiled = compile_names([pattern])
    except ValueError:
        return  # a set such as [b-a], which fnmatch takes for one that nothing is in

    assert compiled.is_in(name) == fnmatch.fnmatchcase(name, pattern)
