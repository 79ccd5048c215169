"""A corpus from files: one message a file, sent as it is apart from its line ends."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from relay.errors import StartError
from relay.model import Envelope
from workers.emulation.corpus import Sample
from workers.emulation.envelopes import make_envelope

_BARE_LF = re.compile(rb"(?<!\r)\n")
_LARGEST = 50 << 20  # the gateway's own limit, ingress.max_message


@dataclass(frozen=True, slots=True)
class FileCorpus:
    """Messages from files, again from the start when ``count`` is more than there are."""

    seed: int
    count: int
    paths: tuple[Path, ...]
    eight_bit: frozenset[Path]  # those with octets above 127

    def __len__(self) -> int:
        return self.count

    def envelope(self, number: int) -> Envelope:
        """Return the envelope of a message: made up, the file's addresses are not used."""
        path = self._choose(number)
        return make_envelope(self.seed, number, eight_bit=path in self.eight_bit)

    def make(self, number: int) -> Sample:
        """Read the message of a number."""
        path = self._choose(number)
        return Sample(number, path.name, self.envelope(number), normalise(path.read_bytes()))

    def _choose(self, number: int) -> Path:
        return self.paths[number % len(self.paths)]


def open_files(
    names: Iterable[str], *, seed: int, count: int | None
) -> tuple[FileCorpus, Counter[str]]:
    """Find the messages under files and directories; return them, and why others were left out.

    ``count``: how many to send; None: each once. Raises StartError when there is nothing to send.
    """
    usable: list[Path] = []
    eight_bit: set[Path] = set()
    left_out: Counter[str] = Counter()
    for path in _find(names):
        content = normalise(_read(path))
        if fault := find_fault(content):
            left_out[fault] += 1
            continue
        usable.append(path)
        if not content.isascii():
            eight_bit.add(path)
    if not usable:
        why = "; ".join(f"{number} x {fault}" for fault, number in left_out.items())
        raise StartError(
            f"no message to send in {', '.join(names)} ({why or 'no *.eml files there'}): "
            "give eml files, or directories that hold some"
        )
    count = len(usable) if count is None else count
    return FileCorpus(seed, count, tuple(usable), frozenset(eight_bit)), left_out


def _find(names: Iterable[str]) -> Iterator[Path]:
    for name in names:
        path = Path(name)
        if path.is_dir():
            yield from sorted(p for p in path.rglob("*.eml") if p.is_file())
        else:
            yield path


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StartError(f"{path}: cannot be read: {error.strerror}") from error


def normalise(content: bytes) -> bytes:
    """Make line ends CRLF, the last one included: SMTP knows no other (RFC 5321 §2.3.8)."""
    content = _BARE_LF.sub(b"\r\n", content)
    return content if content.endswith(b"\r\n") else content + b"\r\n"


def find_fault(content: bytes) -> str:
    """Say why a message cannot be sent; "" when it can."""
    if not content.strip():
        return "empty"
    if content.count(b"\r") != content.count(b"\r\n"):
        return "has a bare CR"
    if b"\0" in content:
        return "has a NUL"
    if content[:1] in b" \t":
        # It would be read as the continuation of the Received header on top of it.
        return "begins with a blank"
    if len(content) > _LARGEST:
        return "larger than 50 MiB"
    return ""
