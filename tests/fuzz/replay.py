"""Corpora: a mailbox or an archive that somebody gives us, and each message in it, packed and scrubbed.

What is read is bounded and comes to an end, or is Damaged; envelopes go to test domains; and whatever is
scrubbed keeps its size, and all that is no word.
"""

import io
import tarfile

from relay.address import find_domain
from relay.smtp.extensions import check_word
from workers.replay.addresses import Addressing
from workers.replay.letter import Letter
from workers.replay.mbox import split
from workers.replay.packed import Damaged, read_entries
from workers.replay.parcel import pack
from workers.replay.scrub.message import scrub
from workers.replay.scrub.words import Words

_FROM = b"From a@b.example Mon Jan  5 08:00:00 2026\n"
_MESSAGE = (
    b"Received: from x by y; Mon, 5 Jan 2026 08:00:00 +0000\r\n"
    b'From: "Ann, (A.)" <ann@a.example>\r\nTo: g: b@b.example, "c d"@c.example;\r\n'
    b"Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?= =?utf-8?b?R3LDvMOfZQ==?=\r\n"
    b'Content-Type: multipart/mixed; boundary="b.host.example"\r\n\r\n'
    b"--b.host.example\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    b"<p style=3D\"x\">gr=C3=BC=\r\n=DFe &#71; %41 http://a.example/\r\n"
    b"--b.host.example\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\ntext\r\n"
    b"--b.host.example--\r\n\0\r\xff\n"
)  # fmt: skip
_MOST = 4096
_WORDS = Words(b"sixteen octets, or more")
_KEPT = b"\r\n\0 <>@\t"


def _make_tar(format_: int) -> bytes:
    octets = io.BytesIO()
    with tarfile.open(fileobj=octets, mode="w", format=format_) as archive:
        for name in ("a.eml", "long/" * 40 + "b.eml"):
            entry = tarfile.TarInfo(name)
            entry.size = 20
            archive.addfile(entry, io.BytesIO(bytes(20)))
    return octets.getvalue().rstrip(b"\0") + bytes(1024)


SEEDS = [
    _FROM + _MESSAGE + b"\n" + _FROM + b">From x\n>>From y\n\n",
    _MESSAGE,
    _MESSAGE.replace(b"\r\n", b"\n"),
    _MESSAGE.replace(b"\r\n", b"\r"),
    _make_tar(tarfile.PAX_FORMAT),
    _make_tar(tarfile.GNU_FORMAT),
]


def check(octets: bytes) -> None:
    """Read octets as all that they could be."""
    for found, came in split(io.BytesIO(_FROM + octets), "mboxrd", _MOST):
        assert found is None or len(found) <= _MOST
        assert came >= 0
    _check_archive(octets)
    _check_message(octets)


def _check_archive(octets: bytes) -> None:
    total = 0
    try:
        for entry in read_entries(io.BufferedReader(io.BytesIO(octets))):  # type: ignore[arg-type]
            total += len(entry.stream.read())
    except Damaged:
        pass
    assert total <= len(octets)


def _check_message(octets: bytes) -> None:
    parcel = pack(Letter("x", octets), 0, Addressing(), b"")
    if parcel is not None:
        assert parcel.content.replace(b"\r\n", b"\n").count(b"\n") == octets.count(b"\n")
        for one in (parcel.envelope.sender, *(r.address for r in parcel.envelope.recipients)):
            check_word(one, utf8=True)
            assert not one or str(find_domain(one)).endswith("test")
    clean = scrub(octets, _WORDS)
    assert len(clean) == len(octets)
    assert all(
        new == old for new, old in zip(clean, octets, strict=True) if new in _KEPT or old in _KEPT
    )
