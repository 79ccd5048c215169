"""Reading one chain from beginning to end, and saying what does not fit.

A line must begin with the number and the hash that follow from the line before: one comparison,
and one hash for the next. Whatever does not is reported once, and reading goes on from there, so
that one change is one finding, or two (the line, and the seal that accounts for it).

A chain may be written meanwhile: half a line at the very end is no finding, and files that appear
after the beginning belong to the next time.
"""

from binascii import hexlify
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

from relay.audit.chain import find_day, find_file, list_days, read_lines
from relay.audit.end import is_torn
from relay.audit.findings import Known, Report
from relay.audit.line import MAX_LINE, START, Head, make_beginning, read_beginning
from relay.audit.purged import Purged
from relay.audit.seal import Book, is_seal, is_signed, read_seal

_EVERY = 100_000  # lines between two words about how far it is


class ChainReader:
    """Reads one chain into a report."""

    def __init__(
        self,
        path: Path,
        report: Report,
        *,
        keys: Sequence[bytes],
        known: Known | None,
        purged: Purged | None,
        now: float,
        tell: Callable[[int], None] | None = None,
    ) -> None:
        """``now``: seconds since 1970; ``tell`` hears how many lines were read, now and then."""
        self._path = path
        self._name = path.name
        self._report = report
        self._keys = keys
        self._purged = purged
        self._today = find_day(now)
        self._tell = tell
        self._head = START
        self._begun = False
        self._sealed = False
        self._book = Book()
        self._broken = False  # something is wrong with this file
        self._unended = False
        self._suspect: tuple[int, bytes] | None = None  # perhaps half a line, if the next says so
        self._file = ""
        self._line = 0
        known = known or Known()
        self._seals = dict(known.seals.get(self._name, {}))
        # Lines whose hash is known from elsewhere, by number.
        self._anchors: dict[int, tuple[bytes, str]] = {}
        if head := known.heads.get(self._name):
            self._anchors[head.n] = (head.hash, "the store")
        if purged is not None and not purged.whole:
            self._anchors[purged.last] = (purged.head.hash, "the record of the last purge")

    def run(self) -> None:
        """Read it. Raises OSError."""
        days = list_days(self._path)
        for day in days:
            self._read_day(day, newest=day == days[-1])
        self._file, self._line = "", 0
        self._check_end()
        self._report.chains += 1

    def _find(self, text: str, line: int | None = None) -> None:
        self._broken = True
        self._report.find(self._name, self._file, self._line if line is None else line, text)

    # -- a file -------------------------------------------------------------------------------

    def _read_day(self, day: str, *, newest: bool) -> None:
        file = find_file(self._path, day)
        self._file, self._line, self._book = str(file), 0, Book()
        self._sealed = self._broken = self._unended = False
        try:
            for line in read_lines(file, MAX_LINE):
                self._line += 1
                self._read_line(line, day)
        except FileNotFoundError:
            self._find("was removed while it was read; if that was a purge, verify again", 0)
            return
        self._judge_suspect()
        # One that was made, and nothing written before the process died, is as if it were not there.
        if self._line:
            self._end_day(day, newest=newest)
            if not self._broken:
                self._report.days += 1

    def _read_line(self, line: bytes, day: str) -> None:
        if not line.endswith(b"\n"):
            if len(line) >= MAX_LINE:
                self._find("is longer than any line that is written")
            self._unended = True
            return
        content = line[:-1]
        beginning = make_beginning(self._head)
        if self._suspect is not None:
            if self._take_half(content):
                beginning = make_beginning(self._head)
            else:
                self._judge_suspect()
                beginning = make_beginning(self._head)
        if content.startswith(beginning):
            self._take(content, len(beginning), day)
        elif read_beginning(content) is None:
            self._suspect = (self._line, content)
        else:
            self._judge(content, day)

    def _take(self, content: bytes, beginning: int, day: str) -> None:
        """A line that follows from the one before."""
        hashed = sha256(content).digest()
        self._head = head = Head(self._head.n + 1, hexlify(hashed))
        if not self._begun:
            self._begin(head.n - 1, START.hash)
        if head.n in self._anchors:
            self._check_anchor()
        if self._sealed:
            self._find(f"line {head.n} stands behind the seal of the day")
            self._sealed = False
        if is_seal(content, beginning):
            self._check_seal(content, day)
        else:
            self._book.note(head.n, hashed)
        self._report.lines += 1
        if self._tell is not None and self._report.lines % _EVERY == 0:
            self._tell(self._report.lines)

    def _judge(self, content: bytes, day: str) -> None:
        """A line that does not follow: say how, and go on from it."""
        begun = read_beginning(content)
        assert begun is not None
        if not self._begun:
            self._begin(begun.n - 1, begun.hash)
        elif begun.n == self._head.n + 1:
            self._find(
                f"line {begun.n} does not follow from the line before it: one of them was changed"
            )
        elif begun.n > self._head.n + 1:
            missing = f"{self._head.n + 1} to {begun.n - 1}"
            self._find(f"lines {missing} are missing before this one, {begun.n}")
        else:
            self._find(f"line {begun.n} stands here behind line {self._head.n}")
        self._head = Head(begun.n - 1, begun.hash)
        self._take(content, len(make_beginning(self._head)), day)

    def _take_half(self, content: bytes) -> bool:
        """Half a line counts when the next has its hash and says what it is (end.py)."""
        assert self._suspect is not None
        number, half = self._suspect
        hashed = sha256(half).digest()
        head = Head(self._head.n + 1, hexlify(hashed))
        beginning = make_beginning(head)
        if not content.startswith(beginning) or not is_torn(content, len(beginning)):
            return False
        self._suspect = None
        if not self._begun:
            self._begin(0, START.hash)
        self._head = head
        if self._sealed:
            self._find(f"line {head.n} stands behind the seal of the day", number)
        self._book.note(head.n, hashed)
        self._report.lines += 1
        if head.n in self._anchors:
            self._check_anchor()
        return True

    def _judge_suspect(self) -> None:
        if self._suspect is not None:
            (number, _), self._suspect = self._suspect, None
            self._find("is no line of an audit trail", number)

    # -- what is known from elsewhere ---------------------------------------------------------

    def _begin(self, n: int, hashed: bytes) -> None:
        """The chain begins behind line ``n``: at the very first, or where a purge says so."""
        self._begun = True
        purged, start = self._purged, Head(n, hashed)
        if purged is None or purged.whole:
            if start != START:
                why = "the chain was purged as a whole" if purged else "no purge was recorded"
                self._find(
                    f"the chain begins with line {n + 1}, and {why}: its beginning is missing"
                )
        elif n > purged.last:
            self._find(
                f"the chain begins with line {n + 1}; the last purge ended with line {purged.last}: "
                f"lines {purged.last + 1} to {n} are missing"
            )
        elif n < purged.last:
            self._report.notes.append(
                f"{self._name}: a purge was not finished: `outgate audit purge` again"
            )
        elif start != purged.head:
            self._find(f"line {n + 1} does not follow from the last line that was purged")
        if n >= (purged.last if purged else 0):
            self._anchors.pop(n, None)

    def _check_anchor(self) -> None:
        hashed, who = self._anchors.pop(self._head.n)
        if hashed != self._head.hash:
            self._find(f"line {self._head.n} was changed: {who} knows another")

    def _check_seal(self, content: bytes, day: str) -> None:
        self._sealed = True
        known = self._seals.pop(day, None)
        if known is not None and known != self._head:
            self._find("the seal was changed: the store knows another")
        seal = read_seal(content)
        if seal is None:
            self._find("the seal cannot be read")
            return
        # What is known to be wrong in the file is not said twice.
        if not self._broken and (fault := self._book.find_fault(seal, self._name, day)):
            self._find(f"the seal does not fit the day: {fault}")
        if not self._keys:
            return
        if seal.hmac and not is_signed(seal, self._keys):
            self._find("the seal's signature is wrong: it was made with another key, or changed")
        elif not seal.hmac and known != self._head:
            self._find("the seal is not signed, and there is nobody else who vouches for it")

    # -- ends ---------------------------------------------------------------------------------

    def _end_day(self, day: str, *, newest: bool) -> None:
        if self._unended and self._sealed:
            self._find("has half a line behind its seal, where nobody writes any more")
        elif self._unended and not newest:
            self._find("ends in half a line, and there are later files")
        if not self._sealed and not newest:
            self._find("has no seal, and there are later files: its end is missing", 0)
        elif not self._sealed and day < self._today:
            self._report.notes.append(
                f"{self._name}: {day} is not sealed yet; if its process does not come back: "
                "`outgate audit seal`"
            )

    def _check_end(self) -> None:
        """See that nothing is known of the chain that it does not have."""
        for n, (_, who) in sorted(self._anchors.items()):
            if n > self._head.n:
                self._find(
                    f"ends with line {self._head.n}; {who} knows of line {n}: its end is cut off"
                )
        for day, seal in sorted(self._seals.items()):
            # A purge has the store forget a seal before it takes the file away.
            self._find(f"the store knows of a seal of {day}, line {seal.n}, that is not there")
