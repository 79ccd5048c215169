"""Patterns of rules: ValueError with words, or a bounded program that says yes or no.

Lines of UTF-8: a pattern, then what it is searched in.
"""

from collections.abc import Callable

from relay.config.pattern import MAX_PROGRAM, Pattern, compile_names, normalise

SEEDS = [
    rb"\b\d{4}-\d{4}\b" + b"\ncard 1234-5678.",
    b"(a+)+$\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!",
    b"(?i)^gr\xc3\xbc\xc3\x9fe|[[:alpha:]]{2,9}(?P<n>x)\nGR\xc3\x9cSSE",
    b"*.exe\nsetup.EXE",
    b"a.exe\na.exe.txt\nA.EXE",
    b"invoice?.[!0-9a-z][]]\ninvoice1.X]",
    b"a{1000}b{1000}c{1000}\nx",
    b"\xef\xbc\xa5*.\xef\xac\x81\n\xef\xbc\xa5x.fi",
    b"[z-a](?=a)\\1\n\0",
]


def _compile(pattern: str, compile_it: Callable[[str], Pattern]) -> Pattern | None:
    try:
        return compile_it(pattern)
    except ValueError as error:
        said = str(error)
    assert said.strip()
    return None


def check(octets: bytes) -> None:
    """A pattern that is taken can be searched in anything; one of names fits the whole of a line."""
    pattern, _, text = octets.decode("utf-8", "replace").partition("\n")
    if (compiled := _compile(pattern, Pattern)) is not None:
        assert compiled.program <= MAX_PROGRAM
        assert compiled.is_in(text) in (True, False)
        # Letters of another case make no difference, unless the pattern says so: "(?-i)".
        if text.isascii() and pattern.isascii() and "(?" not in pattern:
            assert compiled.is_in(text) == compiled.is_in(text.swapcase())
    names = [normalise(name) for name in text.split("\n")]
    if (compiled := _compile(pattern, lambda one: compile_names([one]))) is None:
        return
    fits = [compiled.is_in(name) for name in names]
    assert compiled.is_in("\n".join(names)) == any(fits)
    if not set("*?[") & set(normalise(pattern)):
        assert fits == [name == normalise(pattern) for name in names]
