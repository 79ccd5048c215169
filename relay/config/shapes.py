"""The shapes of names in the configuration: domains, addresses, header fields."""

import json
import os
import re
from collections.abc import Iterator

# Domain names in A-labels; RFC 1035 §2.3.1 with the underscore that the wild has.
DOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")  # fmt: skip
FIELD = re.compile(r"[!-9;-~]{1,76}")  # RFC 5322 §2.2: field-name
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# RFC 5321 §4.1.2: Dot-string, not Quoted-string; UTF-8 as RFC 6531 §3.3 has it. Or the star.
LOCAL = re.compile(r"\*|[^\x00-\x20\x7f\"(),:;<>@\[\\\]*]{1,64}")


_BARE = re.compile(r"[A-Za-z0-9_-]+")


def write_key(name: str) -> str:
    """Write a key as TOML has it in a path: in quotes where it could be taken for something else."""
    return name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def is_file(file: str) -> bool:
    """Tell whether there is such a file: also of a name that is too long, or where we may not look."""
    return os.path.isfile(file)


def check_name(path: str, name: str, names: set[str]) -> Iterator[str]:
    """Tables of a kind have names of their own; ``names``: those before it, to which it is added."""
    if not NAME.fullmatch(name) or name in names:
        yield f"{path}.name: expected a name of its own (letters, digits, _ . -), got {name!r}"
    names.add(name)


def check_patterns(path: str, patterns: tuple[str, ...]) -> Iterator[str]:
    """A pattern is a domain, ``*.domain`` (anything below it) or ``*``."""
    for pattern in patterns:
        if pattern != "*" and not DOMAIN.fullmatch(pattern.removeprefix("*.")):
            yield f'{path}: expected "example.org", "*.example.org" or "*", got {pattern!r}'


def check_senders(path: str, senders: tuple[str, ...]) -> Iterator[str]:
    """A sender is an address, a star for the whole of its local part, or "<>" for the null sender.

    More than one star would ask for a language.
    """
    for sender in senders:
        local, _, domain = sender.rpartition("@")
        if sender == "<>":
            continue
        if not domain or not LOCAL.fullmatch(local) or not DOMAIN.fullmatch(domain):
            yield (
                f'{path}: expected "news@acme.example", "*@acme.example" or "<>", got {sender!r}'
            )


def check_files(path: str, **files: str) -> Iterator[str]:
    """Files that are named must be there."""
    for name, file in files.items():
        if file and not is_file(file):
            yield f"{path}.{name}: no such file: {file}"
