"""Messages taken apart: Unreadable, or parts that lie in each other; names within bounds."""

import re

from relay.mime import Limits, Part, Unreadable, decode, list_names, read_message
from tests.kit.archives import make_gzip, make_local, make_raw_zip, make_tar, make_zip
from tests.kit.mime import make_message, make_multipart, make_part

LIMITS = Limits(depth=4, parts=30, head=4096, names=40, name_characters=2000, unpacked=1 << 14)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

_ZIP = make_zip({"a/b.exe": b"MZ", "c.zip": make_zip({"d.js": b"x"})})
_TEXT = make_part("text/plain; charset=utf-8", b"text \xc3\xa4\r\n", "quoted-printable")


def _attach(content: bytes, name: str, kind: str = "application/octet-stream") -> bytes:
    return make_message(make_part(kind, content, "base64", f"attachment; filename={name}"))


SEEDS = [
    _TEXT,
    make_message(make_multipart("mixed", _TEXT, make_part("message/rfc822", _TEXT))),
    make_message(
        make_multipart("mixed", make_multipart("alternative", _TEXT, _TEXT, boundary="bb"), _TEXT)
    ),
    make_message(make_multipart("digest", b"\r\nSubject: in\r\n\r\nbody")),
    make_part("message/rfc822", make_message(_TEXT), "base64"),
    make_part("text/plain", b"begin 644 a.exe\r\n#0V%T\r\n`\r\nend\r\n"),
    make_part("text/plain", b"x", "", "attachment; filename*0*=utf-8''%41; filename*1=b.exe"),
    make_part('text/plain; name="=?utf-8?b?w6Q=?= =?utf-8?q?=C3=A4?="', b"x", "8bit", "inline"),
    _attach(_ZIP, "a.zip", "application/zip"),
    _attach(b"in front" + _ZIP, "a.zip"),
    _attach(make_raw_zip([(b"x.exe", 0, 1)] * 9, make_local(b"y.exe", b"x"), flags=1), "a.zip"),
    _attach(make_raw_zip([(b"x", 0, 0)] * 40, make_local(b"y" * 4000, b""), method=0), "a.zip"),
    _attach(make_tar({"a/b.exe": b"MZ", "ä" * 120: b""}), "a.tar"),
    _attach(make_tar({"a.exe": b"MZ"}, "w:gz"), "a.tgz"),
    _attach(make_tar({"a.exe": b"MZ"}, "w:bz2"), "a.tbz"),
    _attach(make_tar({"a.exe": b"MZ"}, "w:xz"), "a.txz"),
    _attach(make_gzip(_ZIP, "a.zip"), "b.gz"),
    _attach(b"Rar!\x1a\x07\0", "a.rar"),
]


def _check_tree(octets: bytes, part: Part, depth: int = 0) -> int:
    """Parts lie inside the one around them, in order. Returns how many there are."""
    assert 0 <= part.start <= part.body <= part.end <= len(octets)
    assert depth <= LIMITS.depth
    at, count = part.body, 1
    for inner in part.parts:
        assert at <= inner.start <= inner.end <= part.end
        at = inner.end
        count += _check_tree(octets, inner, depth + 1)
    assert len(decode(octets, part, 10)) <= 10
    # Nothing that is taken off makes more of it.
    assert len(decode(octets, part, len(octets))) <= part.end - part.body
    return count


def check(octets: bytes) -> None:
    """Neither parts nor names cost more than limits allow."""
    try:
        root = read_message(octets, LIMITS)
    except Unreadable:
        return
    assert (root.start, root.end) == (0, len(octets))
    assert _check_tree(octets, root) <= LIMITS.parts
    written = 0
    try:
        for name in list_names(octets, root, LIMITS):
            assert not _CONTROL.search(name)
            written += len(name)
    except Unreadable:
        pass
    # A name in an archive comes once with its folders and once without; those of parts are as they
    # stand in their heads, in a few readings.
    assert written <= 2 * (LIMITS.name_characters + LIMITS.unpacked) + 10 * len(octets)
