"""Names of files in messages and archives, and archives that were made to do harm."""

import bz2
import contextlib
import io
import tarfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.mime import Limits, Unreadable, list_names, read_message, walk_all
from tests.kit.archives import (
    deflate,
    make_gzip,
    make_local,
    make_overlapping,
    make_quine,
    make_raw_zip,
    make_tar,
    make_zip,
)
from tests.kit.mime import make_message, make_multipart, make_part


def list_of(octets: bytes, limits: Limits | None = None) -> list[str]:
    limits = limits or Limits()
    return list(list_names(octets, read_message(octets, limits), limits))


def attach(content: bytes, name: str = "x.bin", kind: str = "application/octet-stream") -> bytes:
    file = make_part(kind, content, "base64", f'attachment; filename="{name}"' if name else "")
    return make_message(make_multipart("mixed", make_part("text/plain", b"Hello"), file))


FILES = {"a.txt": b"a" * 2000, "folder/evil.exe": b"MZ", "ä.js": b""}
SHOWN = ["a.txt", "folder/evil.exe", "evil.exe", "ä.js"]


@pytest.mark.parametrize(
    "archive",
    [
        make_zip(FILES),
        make_zip(FILES, zipfile.ZIP_STORED),
        b"MZ something in front" + make_zip(FILES),
        make_tar(FILES),
        make_tar(FILES, style=tarfile.GNU_FORMAT),
        make_tar(FILES, style=tarfile.USTAR_FORMAT),
        make_tar(FILES, "w:gz"),
        make_tar(FILES, "w:bz2"),
        make_tar(FILES, "w:xz"),
    ],
)
def test_names_in_archives(archive: bytes) -> None:
    assert set(SHOWN) <= set(list_of(attach(archive, "x.zip")))
    # By its octets, too; but for one that has to be looked for.
    if not archive.startswith(b"MZ"):
        assert set(SHOWN) <= set(list_of(attach(archive, "x.pdf")))
        assert set(SHOWN) <= set(list_of(attach(archive, "")))


@pytest.mark.parametrize("style", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_in_a_tar(style: int) -> None:
    names = {"ü" * 120 + ".exe": b"x" * 513, "d/" * 60 + "b.exe": b"", "last": b""}

    assert names.keys() <= set(list_of(attach(make_tar(names, style=style), "x.tar")))


def test_packed_files() -> None:
    assert list_of(attach(make_gzip(b"MZ", "evil.exe"), "a.gz")) == ["a.gz", "a", "evil.exe"]
    assert list_of(attach(make_gzip(b"MZ"), "a.exe.gz")) == ["a.exe.gz", "a.exe"]
    packed = make_gzip(b"MZ", "evil.exe") + b"\0" * 100
    assert "evil.exe" in list_of(attach(packed, "a.gz"))


def test_archives_in_an_archive() -> None:
    inner = make_zip({"evil.exe": b"MZ"})
    outer = (make_zip({"in.zip": inner}), make_tar({"in.zip": inner}), make_gzip(inner))
    for archive in outer:
        assert "evil.exe" in list_of(attach(archive, "x"))
    assert "evil.exe" in list_of(attach(make_zip({"in.tgz": make_tar(FILES, "w:gz")}), "x.zip"))
    # One further in cannot be looked into, and nobody can say what it has.
    for archive in outer:
        with pytest.raises(Unreadable, match="archives in archives"):
            list_of(attach(make_zip({"out.zip": archive, "x.gz": archive}), "x.zip"))
    # Office documents are archives to us, and none to those who get them.
    sheet = make_zip({"sheet.xml": b"<x/>"})
    letter = make_zip({"word/embeddings/sheet.xlsx": sheet})
    assert "sheet.xlsx" in list_of(attach(make_zip({"letter.docx": letter}), "x.zip"))


def test_a_name_that_differs_in_two_places_is_two_names() -> None:
    archive = make_raw_zip([(b"good.txt", 0, 2)], make_local(b"evil.exe", b"MZ", 0), method=0)

    assert list_of(attach(archive, "x.zip")) == ["x.zip", "good.txt", "evil.exe"]


def test_an_encrypted_archive_shows_its_names() -> None:
    plain = make_raw_zip([(b"a.exe", 0, 2)], make_local(b"a.exe", b"??", 0), method=0, flags=1)
    assert "a.exe" in list_of(attach(plain, "x.zip"))
    inner = make_raw_zip([(b"a.zip", 0, 2)], make_local(b"a.zip", b"??", 0), method=0, flags=1)
    with pytest.raises(Unreadable, match="encrypted"):
        list_of(attach(inner, "x.zip"))
    masked = make_raw_zip([(b"1", 0, 2)], make_local(b"1", b"??", 0), method=0, flags=0x2001)
    with pytest.raises(Unreadable, match="encrypted"):
        list_of(attach(masked, "x.zip"))


BROKEN = [
    make_zip(FILES)[:-30],
    make_zip(FILES)[:40],
    make_tar(FILES)[:1500],
    make_tar(FILES, "w:gz")[:-20],
    make_tar(FILES, "w:xz")[:-20],
    make_raw_zip([(b"a", 900, 2)], make_local(b"a", b"MZ", 0)),
    make_raw_zip([(b"a", 0, 2)], make_local(b"a", b"MZ", 0), count=2),
    make_gzip(b"x")[:12],
]


@pytest.mark.parametrize("archive", BROKEN)
def test_what_is_broken_counts_where_it_says_that_it_is_an_archive(archive: bytes) -> None:
    with pytest.raises(Unreadable, match="broken"):
        list_of(attach(archive, "x.zip"))
    with pytest.raises(Unreadable, match="broken"):
        list_of(attach(archive, "x", "application/zip"))
    assert list_of(attach(archive, "x.docx"))[0] == "x.docx"


def test_one_broken_entry_does_not_hide_the_others() -> None:
    data = make_local(b"a", b"\xff\xff") + make_local(b"evil.exe", b"")
    archive = make_raw_zip([(b"a", 0, 2), (b"evil.exe", 33, 0)], data)

    assert list_of(attach(archive, "x.docx")) == ["x.docx", "a", "evil.exe"]
    with pytest.raises(Unreadable, match="broken"):
        list_of(
            attach(make_raw_zip([(b"a.zip", 0, 2)], make_local(b"a.zip", b"\xff\xff")), "x.docx")
        )


def test_what_is_none_is_let_be() -> None:
    assert list_of(attach(b"no archive", "x.zip")) == ["x.zip"]
    assert list_of(attach(b"BZhello", "x.txt")) == ["x.txt"]


@pytest.mark.parametrize(
    "magic", [b"Rar!\x1a\x07\x01\0", b"7z\xbc\xaf\x27\x1c", b"\x78\x9f\x3e\x22\0\0"]
)
def test_what_cannot_be_listed_is_unreadable(magic: bytes) -> None:
    with pytest.raises(Unreadable, match="cannot be read"):
        list_of(attach(magic + b"x" * 600, "x.pdf"))


def test_two_directories_are_one_too_many() -> None:
    good = make_zip({"good.txt": b""})
    # An end in the comment of an end; what it says is right if nothing were in front of it.
    twice = good[:-2] + (22).to_bytes(2, "little") + make_zip({})
    # What stands in front has a directory where the last one is said to be.
    front = make_raw_zip([(b"evil.exe", 0, 0)], make_local(b"evil.exe", b""))
    last = make_raw_zip([(b"good.txt", 0, 0)], make_local(b"good.txt", b""))
    for archive in (twice, front + last):
        with pytest.raises(Unreadable, match="two directories"):
            list_of(attach(archive, "x.zip"))


def test_messages_in_messages() -> None:
    inner = attach(make_zip(FILES), "in.zip")
    for encoding in ("", "base64", "quoted-printable"):
        part = make_part("message/rfc822", inner, encoding, "attachment; filename=m.eml")
        octets = make_message(make_multipart("mixed", part, boundary="outer"))

        assert list_of(octets) == ["m.eml", "in.zip", *SHOWN]
        types = [one.content_type for _, one in walk_all(octets, read_message(octets))]
        assert types[-1] == "application/octet-stream"
    deep = inner
    for _ in range(21):
        deep = make_message(make_part("message/rfc822", deep, "quoted-printable"))
    with pytest.raises(Unreadable, match="deep"):
        list_of(deep)


def test_files_in_the_text() -> None:
    text = b"See below\r\nbegin 644 evil.exe\r\n#0V%T\r\n`\r\nend\r\n"

    assert list_of(make_message(make_part("text/plain", text))) == ["evil.exe"]
    assert list_of(make_message(make_part("text/html", text, "base64"))) == ["evil.exe"]


def test_base64_that_goes_on_is_unreadable() -> None:
    octets = b"Content-Transfer-Encoding: base64\r\n\r\nQUI=\r\nUEsDBA==\r\n"
    with pytest.raises(Unreadable, match="behind its end"):
        list_of(octets)


EMPTY_BLOCKS = b"\0\0\0\xff\xff"  # deflate that makes nothing


ZEROS = 100 << 20

# What is not called an archive is let be when it is broken: all entries have their turn.
BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "ratio.gz": (lambda: make_gzip(make_tar({"a": b""})[:512] + bytes(ZEROS)), "unpack to"),
    "ratio.zip": (
        lambda: make_zip({"in.zip": make_zip({"x": b""})[:30] + bytes(ZEROS)}),
        "unpack to",
    ),
    "entries.zip": (
        lambda: make_raw_zip([(b"", 0, 0)] * 300_000, make_local(b"", b"")),
        "names",
    ),
    # One long name in front of the content, which is everybody's.
    "name.zip": (
        lambda: make_raw_zip(
            [(b"x", 0, 0)] * 10_000, make_local(b"\xe4" * 65_000, b"", 0), method=0
        ),
        "characters",
    ),
    "count.zip": (
        lambda: make_overlapping(
            9000, deflate(make_zip(dict.fromkeys(map(str, range(1000)), b"")))
        ),
        "names",
    ),
    "overlap.zip": (
        lambda: make_overlapping(9000, deflate(b"PK\x03\x04" + bytes(ZEROS // 5))),
        "unpack to",
    ),
    "nothing.zip": (lambda: make_overlapping(9000, EMPTY_BLOCKS * 2_000_000), "to nothing"),
    "late.zip": (
        lambda: make_overlapping(
            9000, deflate(b"PK\x03\x04" + bytes(600), ends=False) + EMPTY_BLOCKS * 2_000_000
        ),
        "are packed",
    ),
    "stored.zip": (
        lambda: make_raw_zip(
            [(b"a", 0, ZEROS // 5)] * 9000,
            make_local(b"a", b"PK\x03\x04" + bytes(ZEROS // 5), 0),
            method=0,
        ),
        "are packed",
    ),
    "blocks.zip": (
        lambda: make_raw_zip(
            [(b"a", 0, 60)] * 9000,
            make_local(b"a", bz2.compress(b"ab" * 445_000) + bytes(60), 0),
            method=0,
        ),
        "unpack to",
    ),
    "streams.gz": (lambda: make_gzip(b"") * 500_000, "to nothing"),
    "streams.tgz": (lambda: make_gzip(make_tar({"a": b""})) * 100_000, "streams"),
    "quine.zip": (make_quine, "archives in archives"),
    "headers.tar": (lambda: make_tar({"a": b""})[:512] * 50_000, "names"),
}


def make_huge_sizes() -> bytes:
    entry = tarfile.TarInfo("a")
    entry.size = 1 << 60
    return entry.tobuf(tarfile.GNU_FORMAT) + bytes(2048)


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_bombs_are_stopped_early(name: str) -> None:
    """In seconds and octets that do not depend on what they would unpack to."""
    make, reason = BOMBS[name]
    archive = make()
    octets = attach(archive, name)
    root = read_message(octets)
    started = time.perf_counter()
    with pytest.raises(Unreadable, match=reason):
        list(list_names(octets, root))
    assert time.perf_counter() - started < 5

    tracemalloc.start()
    with pytest.raises(Unreadable):
        list(list_names(octets, root))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * len(archive) + (160 << 20)


def test_sizes_that_are_only_said_cost_nothing() -> None:
    with pytest.raises(Unreadable, match="broken"):
        list_of(attach(make_huge_sizes(), "x.tar"))
    huge = make_raw_zip(
        [(b"a.zip", 0, 0xFFFFFFF0)], make_local(b"a.zip", b"PK\x03\x04", 0), method=0
    )
    with pytest.raises(Unreadable, match="broken"):
        list_of(attach(huge, "x.zip"))


@settings(deadline=None)
@given(
    st.sampled_from([make_zip(FILES), make_tar(FILES), make_gzip(b"MZ", "a.exe"), make_tar(FILES, "w:bz2"),
                     make_zip({"in.zip": make_zip(FILES), "in.tar": make_tar(FILES)}), *BROKEN]),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6),
    st.booleans(),
)  # fmt: skip
def test_damaged_archives_are_listed_or_refused(
    archive: bytes, changes: list[tuple[float, int]], cut: bool
) -> None:
    octets = bytearray(archive)
    for place, octet in changes:
        octets[int(place * (len(octets) - 1))] = octet
    if cut and changes:
        del octets[int(changes[0][0] * len(octets)) :]
    with contextlib.suppress(Unreadable):
        list_of(attach(bytes(octets), "x.zip"))


@settings(deadline=None)
@given(st.dictionaries(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1,
                               max_size=40).filter(lambda name: not name.startswith("/") and name.strip() == name),
                       st.sampled_from([b'', b'text']), max_size=5))  # fmt: skip
def test_names_are_those_that_others_read(files: dict[str, bytes]) -> None:
    archive = make_zip(files)
    theirs = zipfile.ZipFile(io.BytesIO(archive)).namelist()

    assert set(theirs) <= set(list_of(attach(archive, "x.zip")))
    assert set(theirs) <= set(list_of(attach(make_tar(files), "x.tar")))
