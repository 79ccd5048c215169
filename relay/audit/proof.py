"""Checking an export (export.py) by itself, without the trail that it was taken from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from relay.audit.export import BLOCK, Row
from relay.audit.line import UNREADABLE, Head, find_head, read_beginning
from relay.audit.seal import Book, is_signed, read_seal

_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Proof:
    """What an export shows. ``unsealed``: days whose lines nothing vouches for yet."""

    lines: int = 0
    seals: int = 0
    unsealed: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class _Checker:
    def __init__(
        self, keys: Sequence[bytes], seals: Mapping[str, Mapping[str, Head]] | None
    ) -> None:
        self.proof = Proof()
        self._keys = keys
        self._seals = seals
        self._place = ("", "")
        self._begin(("", ""))

    def _begin(self, place: tuple[str, str]) -> None:
        self._place = place
        self._book = Book()
        self._waiting: dict[int, str] = {}  # lines whose hashes have not come yet
        self._sealed = not place[0]

    def take(self, row: Row) -> None:
        place = (row.chain, row.day)
        if place != self._place:
            self.end()
            self._begin(place)
        if row.hashes:
            self._take_hashes(row)
        elif bytes(row.seal):
            self._take_seal(bytes(row.seal))
        elif bytes(row.line):
            self._take_line(bytes(row.line))

    def _fault(self, text: str) -> None:
        self.proof.faults.append(f"{self._place[0]}, {self._place[1]}: {text}")

    def _take_line(self, content: bytes) -> None:
        begun = read_beginning(content)
        if begun is None or len(self._waiting) >= BLOCK:
            self._fault("not a line of a trail")
            return
        self._waiting[begun.n] = find_head(begun.n, content).hash.decode()
        self.proof.lines += 1

    def _take_hashes(self, row: Row) -> None:
        if self._book.last and row.first != self._book.last + 1:
            self._fault(f"hashes of the lines before {row.first} are missing")
        for n, hashed in enumerate(row.hashes, row.first):
            if self._waiting.pop(n, hashed) != hashed:
                self._fault(f"line {n} is not the one that stood there")
            try:
                self._book.note(n, bytes.fromhex(hashed))
            except ValueError:
                self._fault(f"the hash of line {n} is none")

    def _take_seal(self, content: bytes) -> None:
        self._sealed = True
        seal, begun = read_seal(content), read_beginning(content)
        if seal is None or begun is None:
            self._fault("the seal cannot be read")
            return
        if fault := self._book.find_fault(seal, *self._place):
            self._fault(f"the seal does not fit: {fault}")
        if self._keys and not is_signed(seal, self._keys):
            self._fault("the seal is not signed with this key")
        if self._seals is not None:
            known = self._seals.get(self._place[0], {}).get(self._place[1])
            if known is not None and known != find_head(begun.n, content):
                self._fault("the store knows another seal")
        self.proof.seals += 1

    def end(self) -> None:
        for n in self._waiting:
            self._fault(f"line {n} is not among the hashes of the day")
        if not self._sealed:
            self.proof.unsealed.append(f"{self._place[0]}, {self._place[1]}")


def _is_plain(row: Row, number: int) -> bool:
    """Tell whether a row is one thing: what else it showed its reader would not be looked at.

    The first says what was exported, all others are a line, hashes or a seal.
    """
    is_head = bool(row.export)
    others = [row.hashes, bytes(row.line), bytes(row.seal)]
    return is_head is (number == 1) and sum(map(bool, others)) == (not is_head)


def check_export(
    rows: Iterable[bytes],
    keys: Sequence[bytes] = (),
    seals: Mapping[str, Mapping[str, Head]] | None = None,
) -> Proof:
    """Check each line against its day's seal, and the seals against a key or what the store knows."""
    checker = _Checker(keys, seals)
    for number, text in enumerate(rows, 1):
        try:
            row = msgspec.json.decode(text, type=Row)
        except UNREADABLE:
            checker.proof.faults.append(f"row {number} cannot be read")
            continue
        if not _is_plain(row, number) or _encode(row) != text.rstrip(b"\n"):
            checker.proof.faults.append(f"row {number} is not as an export has it")
        elif not row.export:
            checker.take(row)
    checker.end()
    return checker.proof
