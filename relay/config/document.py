"""A TOML document that somebody wrote: read, and held against the type that it should be.

Everything that is wrong is reported at once, each problem a line with the path of its key.
"""

import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import msgspec

from relay.config.section import Section
from relay.config.shape import PARSERS, find_mismatches
from relay.errors import ConfigError

Wanted = TypeVar("Wanted", bound=Section)


@contextmanager
def naming(file: str) -> Iterator[None]:
    """Name the file in front of whatever is wrong with it: in each line of a ConfigError."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError([f"{file}: {problem}" for problem in error.problems]) from error


def parse(read: Callable[[], str]) -> dict[str, object]:
    """Return what the text that ``read`` brings says. Raises ConfigError."""
    try:
        return tomllib.loads(read())
    except OSError as error:
        raise ConfigError([f"cannot be read: {error.strerror}"]) from error
    except ValueError as error:  # not UTF-8; not TOML; a number of more digits than Python reads
        raise ConfigError([f"is not TOML: {error}"]) from error
    except RecursionError as error:
        raise ConfigError(["is not TOML that can be read: nested too deep"]) from error


def check(document: dict[str, object], wanted: type[Wanted]) -> Wanted:
    """Return a document as the type that describes it. Raises ConfigError."""
    refuse(find_mismatches(document, wanted))
    return msgspec.convert(document, wanted, dec_hook=_decode)


def refuse(problems: Iterable[str]) -> None:
    """Raise ConfigError if there are problems: each a line, whatever is quoted in it."""
    if lines := list(map(_escape, problems)):
        raise ConfigError(lines)


def _escape(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def _decode(wanted: type, value: object) -> object:
    return PARSERS[wanted](value)
