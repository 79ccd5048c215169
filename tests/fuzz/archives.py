"""Archives, without the message around them: names within bounds, or Unreadable.

The first octet chooses what the file is called. The rest is the file.
"""

import re
import tarfile

from relay.mime import Limits, Unreadable
from relay.mime.archives import list_members
from relay.mime.budget import Budget
from tests.fuzz.target import take_octet
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

LIMITS = Limits(names=100, name_characters=4000, unpacked=1 << 16)
_NAMES = ("a.zip", "a.tar", "a.tgz", "a.gz", "a.bz2", "a.xz", "a.doc", "")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

_ZIP = make_zip({"a/b.exe": b"MZ", "c.zip": make_zip({"d.js": b"x"}), "\u00e4": b""})
_TAR = make_tar({"a/b.exe": b"MZ", "c.zip": _ZIP, "\u00e4" * 120: b"x" * 513})
SEEDS = [
    b"\0" + _ZIP,
    b"\0in front" + _ZIP,
    b"\0" + _ZIP + _ZIP,
    b"\6" + _ZIP[:-9],
    b"\0" + make_zip({"t.tar": _TAR}),
    b"\0" + make_raw_zip([(b"x.exe\0y", 0, 1)] * 9, make_local(b"y.exe", b"x"), flags=0x801),
    b"\0" + make_raw_zip([(b"x", 0, 0)] * 90, make_local(b"y" * 4000, b""), method=0),
    b"\0" + make_overlapping(90, deflate(b"PK\x03\x04" + bytes(9999))),
    b"\0" + make_quine(),
    b"\1" + _TAR,
    b"\1" + make_tar({"a" * 200: b"MZ"}, style=tarfile.GNU_FORMAT),
    b"\2" + make_tar({"a.exe": b"MZ"}, "w:gz"),
    b"\4" + make_tar({"a.exe": b"MZ"}, "w:bz2"),
    b"\5" + make_tar({"a.exe": b"MZ"}, "w:xz"),
    b"\3" + make_gzip(_ZIP, "b.zip") + make_gzip(b""),
    b"\7" + make_gzip(bytes(1 << 18)),
    b"\7Rar!\x1a\x07\0",
]


def check(octets: bytes) -> None:
    """Nothing is unpacked, or called, beyond the limits; what is shown can be shown."""
    how, file = take_octet(octets)
    name = _NAMES[how % len(_NAMES)]
    count = written = 0
    try:
        for member in list_members(file, (name,) if name else (), "", Budget(LIMITS)):
            assert not _CONTROL.search(member)
            count += 1
            written += len(member)
    except Unreadable:
        pass
    # An entry has a few names at most, each with its folders and without. Those of tar archives are
    # all written out.
    assert count <= 10 * LIMITS.names + 10
    assert written <= 2 * (LIMITS.name_characters + LIMITS.unpacked + len(file)) + 100
