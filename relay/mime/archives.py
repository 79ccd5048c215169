"""The names in archives: ZIP, tar, and what gzip, bzip2 or xz have packed; known by their octets.

Archives in an archive are looked into, and no further. Nothing is written anywhere.

What breaks a bound makes the message unreadable. What is broken does when it says by name or type
that it is an archive: the recipient's program may make more of it than we do. What only looks like
one by its first octets (an office document cut off on the way) is let be: nobody unpacks it.
Of RAR, 7-Zip and cabinet files the names cannot be read here, so whoever wants to know
them is told that.
"""

from collections.abc import Iterator

from relay.mime import tarred, zipped
from relay.mime.budget import Budget
from relay.mime.charset import clean
from relay.mime.limits import Unreadable
from relay.mime.unpack import PACKED, Damaged, Octets, peek, unpack

_SUFFIXES = (
    *(".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz", ".tbz2", ".xz", ".txz"),
    *(".rar", ".7z", ".cab"),
)
_TYPES = frozenset(
    {
        *("application/zip", "application/x-zip-compressed", "application/x-zip"),
        *("application/x-tar", "application/gzip", "application/x-gzip"),
        *("application/x-bzip2", "application/x-xz", "application/x-compressed-tar"),
    }
)
_MAGIC: tuple[tuple[bytes, str], ...] = (
    *((magic, "zip") for magic in zipped.MAGIC),
    (b"\x1f\x8b\x08", "gz"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"Rar!\x1a\x07", "RAR"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    (b"MSCF\0\0\0\0", "cabinet"),
    # winmail.dat: Outlook shows what is attached in it (MS-OXTNEF §2.1.3.3.1, little-endian).
    (b"\x78\x9f\x3e\x22", "TNEF"),
)
_CLOSED = frozenset({"RAR", "7-Zip", "cabinet", "TNEF"})
_BZ2_BLOCK = (b"\x31\x41\x59\x26\x53\x59", b"\x17\x72\x45\x38\x50\x90")
_UNPACKED_NAMES = {".tgz": ".tar", ".tbz": ".tar", ".tbz2": ".tar", ".txz": ".tar"}
_DEEPEST = 1  # archives in an archive


def find_kind(beginning: Octets) -> str:
    """Return what archive begins with these octets (PEEK of them); "": none that is known."""
    for magic, kind in _MAGIC:
        if beginning.startswith(magic):
            # "BZh" is also a beginning of words.
            return "" if kind == "bz2" and bytes(beginning[4:10]) not in _BZ2_BLOCK else kind
    try:
        return "tar" if tarred.is_header(beginning) else ""
    except Damaged:
        return ""


def claims_archive(names: tuple[str, ...], content_type: str = "") -> bool:
    """Tell whether something says that it is an archive."""
    return content_type in _TYPES or any(
        name.lower().rstrip(" .").endswith(_SUFFIXES) for name in names
    )


def list_members(
    octets: Octets, names: tuple[str, ...], content_type: str, budget: Budget
) -> Iterator[str]:
    """Yield the names in a file, if it is an archive. ``names``: its own. Raises Unreadable."""
    kind = find_kind(octets[:512])
    claimed = claims_archive(names, content_type)
    if not kind and claimed and zipped.has_end(octets):
        kind = "zip"  # with something in front of it
    if kind:
        yield from _Lister(budget).open(kind, octets, names, 0, claimed=claimed)


class _Lister:
    """Lists an archive, and those in it."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def open(
        self, kind: str, octets: Octets, names: tuple[str, ...], depth: int, *, claimed: bool
    ) -> Iterator[str]:
        """Yield the names in an archive. ``depth``: how many it is in."""
        if depth > _DEEPEST:
            if claimed:
                raise Unreadable("archives in archives in an archive")
            return
        if kind in _CLOSED:
            raise Unreadable(f"the names in a {kind} archive cannot be read")
        try:
            if kind == "zip":
                yield from self._list_zip(octets, depth)
            elif kind == "tar":
                yield from self._list_tar(octets, depth)
            else:
                yield from self._list_packed(kind, octets, names, depth)
        except Damaged:
            if claimed:
                raise Unreadable("an archive is broken, or cut off") from None

    def _list_zip(self, octets: Octets, depth: int) -> Iterator[str]:
        for entry in zipped.read_entries(octets, self._budget):
            yield from _show(entry.names)
            claimed = claims_archive(entry.names)
            if depth == _DEEPEST and not claimed:
                continue
            try:
                kind, content = self._look(entry, depth, claimed=claimed)
            except Damaged:
                # One entry is: the directory, and the others in it, are not.
                if claimed:
                    raise Unreadable("an archive in an archive is broken, or cut off") from None
                continue
            if kind:
                yield from self.open(kind, content, entry.names, depth + 1, claimed=claimed)

    def _look(self, entry: zipped.Entry, depth: int, *, claimed: bool) -> tuple[str, Octets]:
        """Return what archive an entry is, and its octets where they will be looked into."""
        beginning = entry.peek(self._budget) if len(entry.content) else b""
        if beginning is None:
            if claimed:
                raise Unreadable("an archive in an archive is encrypted, or packed in a rare way")
            return "", b""
        kind = find_kind(beginning)
        return kind, entry.unpack(self._budget) if kind and depth < _DEEPEST else b""

    def _list_tar(self, octets: Octets, depth: int) -> Iterator[str]:
        for entry in tarred.read_entries(octets, self._budget):
            yield from _show(entry.names)
            if kind := find_kind(octets[entry.start : min(entry.end, entry.start + 512)]):
                content = octets[entry.start : entry.end] if depth < _DEEPEST else b""
                self._budget.take_read(len(content))
                claimed = claims_archive(entry.names)
                yield from self.open(kind, content, entry.names, depth + 1, claimed=claimed)

    def _list_packed(
        self, kind: str, octets: Octets, names: tuple[str, ...], depth: int
    ) -> Iterator[str]:
        """Yield the names of one packed file: a tar is looked into, as if it were not packed."""
        assert kind in PACKED
        inner = tuple(name for outer in names if (name := _find_inner(outer)))
        yield from _show(inner)
        if kind == "gz":
            original = _read_original(octets)
            yield from _show((original,) if original else ())
            inner = (*inner, original)
        view = memoryview(octets)
        content_kind = find_kind(peek(kind, view, self._budget))
        if not content_kind:
            return
        depth += content_kind != "tar"
        # Whoever packs an archive once more has it unpacked, whatever the name.
        claimed = depth > _DEEPEST or claims_archive(inner)
        content = unpack(kind, view, self._budget) if depth <= _DEEPEST else b""
        yield from self.open(content_kind, content, inner, depth, claimed=claimed)


def _find_inner(name: str) -> str:
    """Return the name that unpacking leaves: "a.txt" of "a.txt.gz"; "" if that is not clear."""
    stem, dot, suffix = name.rpartition(".")
    if not stem or dot + suffix.lower() not in _SUFFIXES:
        return ""
    return stem + _UNPACKED_NAMES.get(dot + suffix.lower(), "")


def _read_original(octets: Octets) -> str:
    """Return the name that a gzip file has in it (RFC 1952 §2.3), or ""."""
    flags = octets[3] if len(octets) > 3 else 0
    at = 10
    if flags & 0x04:
        at += 2 + int.from_bytes(octets[at : at + 2], "little")
    if not flags & 0x08:
        return ""
    end = octets.find(b"\0", at, at + 64 * 1024)
    if end < 0:
        raise Damaged
    return bytes(octets[at:end]).decode("latin-1")


def _show(names: tuple[str, ...]) -> Iterator[str]:
    """Yield names, and of those with folders the last part as well."""
    for name in names:
        text = clean(name)
        yield text
        last = text.replace("\\", "/").rstrip("/").rpartition("/")[2]
        if last and last != text:
            yield last
