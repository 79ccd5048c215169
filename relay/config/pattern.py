"""Patterns of rules, searched in what strangers write, in time that grows with its length only.

Python's own ``re`` goes back and tries again: ``(a+)+$`` against a subject of forty letters takes
longer than anybody waits, and the loop with it. A time-out (as the ``regex`` module has) ends the wait
but leaves the question open, and who can make a search time out has a way past the rule. To refuse
patterns that look dangerous is a guess, wrong both ways. RE2 builds automata and never goes back:
what it cannot do in linear time (``\\1``, look-around) it refuses when the configuration is read.
What is left is a factor, the size of its program; that is bounded, too.
"""

import unicodedata
from collections.abc import Iterable

import re2  # type: ignore[import-untyped]

# A search steps through each instruction for each character at worst, at about 7 ns: this against the
# longest value that is searched (64 KiB) is a second, and against a usual one some microseconds.
# Lists of a few hundred words fit.
MAX_PROGRAM = 2000
# Octets that the automata of one pattern may grow to while strangers feed it; most stay in the
# thousands. With less, RE2 takes its slow way more often.
_MAX_MEMORY = 2 << 20
# Names are short, and a list of dangerous suffixes is long.
_MAX_NAMES_PROGRAM = 20_000


class Pattern:
    """A compiled pattern; it says yes or no, not where."""

    def __init__(self, text: str, *, max_program: int = MAX_PROGRAM) -> None:
        """Raises ValueError, in words for who wrote ``text``."""
        try:
            compiled = re2.compile(text, _options())
        except (re2.error, UnicodeEncodeError) as error:
            raise ValueError(_explain(error)) from None
        self._search = compiled.search
        self.program: int = compiled.programsize  # steps for each character, at worst
        if self.program > max_program:
            raise ValueError(
                f"too large: {self.program} steps where {max_program} are allowed; "
                "repeat less, or make two rules of it"
            )

    def is_in(self, text: str) -> bool:
        """Tell whether it occurs in ``text``, which has no lone surrogates."""
        return self._search(text) is not None


def _options() -> "re2.Options":
    options = re2.Options()
    options.case_sensitive = False
    options.never_capture = True  # groups cost time, and nobody asks what was in them
    options.log_errors = False
    options.max_mem = _MAX_MEMORY
    return options


def _explain(error: Exception) -> str:
    # RE2 gives its reason as octets.
    reason = error.args[0] if error.args else ""
    words = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else "not text"
    return f"{words} (the syntax is RE2's: no look-around, no references to groups)"


def normalise(name: str) -> str:
    """Return a name as patterns of names are compared: widths and ligatures undone, without case."""
    return unicodedata.normalize("NFKC", name).casefold()


def compile_names(patterns: Iterable[str]) -> Pattern:
    """Return one pattern for ``*.exe`` and the like; it is searched in names, a line each.

    ``*`` is anything, ``?`` one character, ``[abc]`` one of these, ``[!abc]`` none of these. The names
    must have gone through ``normalise``. Raises ValueError.
    """
    choices = "|".join(_translate(normalise(pattern)) for pattern in patterns)
    # One pass over all names for all patterns, however many of each there are.
    return Pattern(f"(?m)^(?:{choices})$", max_program=_MAX_NAMES_PROGRAM)


def _translate(pattern: str) -> str:
    """Write a pattern of names as a regular expression."""
    written: list[str] = []
    at = 0
    while at < len(pattern):
        character = pattern[at]
        # A bracket that opens a set closes it later, and not at once: "[]]" is the set of "]".
        close = pattern.find("]", at + 2 + (pattern[at + 1 : at + 2] == "!"))
        if character == "*":
            written.append(".*")
        elif character == "?":
            written.append(".")
        elif character == "[" and close > 0:
            written.append(_translate_set(pattern[at + 1 : close]))
            at = close
        else:
            written.append(re2.escape(character))
        at += 1
    return "".join(written)


def _translate_set(content: str) -> str:
    negated = content.startswith("!")
    members = "".join(
        character if character == "-" else re2.escape(character) for character in content[negated:]
    )
    # A line is a name: what is none of the set does not reach into the next.
    return f"[^{members}\\n]" if negated else f"[{members}]"
