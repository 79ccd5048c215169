"""Messages that are small for who sends them, and were made to be large for who looks into them.

Each function makes one when it is called; none is kept. Octets as on the wire, dots not stuffed.
"""

import base64
import bz2
import functools
import io
import lzma
import struct
import tarfile
import zlib
from collections.abc import Callable

from tests.kit.archives import deflate, make_local, make_overlapping, make_quine, make_zip

_HEAD = b"From: Ann <ann@acme.example>\r\nTo: b@there.test\r\nMIME-Version: 1.0\r\n"
_TEXT = b"Content-Type: text/plain; charset=utf-8\r\n\r\n"
LARGEST = 49 << 20  # octets; ingress.max_message is 50 MiB


def make_plain(text: bytes, *fields: bytes) -> bytes:
    """Return a message of one text, with more fields on top."""
    return b"".join(field + b"\r\n" for field in fields) + _HEAD + _TEXT + text


def attach(name: str, content: bytes, content_type: str = "application/octet-stream") -> bytes:
    """Return a message with a text and a file."""
    encoded = base64.encodebytes(content).replace(b"\n", b"\r\n")
    disposition = b'Content-Disposition: attachment; filename="%b"' % name.encode()
    return (
        _HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + _TEXT
        + b"See the file.\r\n--b\r\nContent-Type: %b\r\n" % content_type.encode()
        + disposition + b"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + encoded + b"--b--\r\n"
    )  # fmt: skip


# -- archives


def nested_zips() -> bytes:
    """Sixteen archives in each of sixteen, five deep, and ten megabytes of zeros in each of the last."""
    archive = make_zip({"0.dll": bytes(10 << 20)})
    for _ in range(5):
        archive = make_zip({f"{number}.zip": archive for number in range(16)})
    return attach("42.zip", archive)


def crowded_zip(count: int) -> bytes:
    """An archive with so many entries."""
    local = make_local(b"a", b"", 0)
    entry = struct.pack(
        "<4s4B4H3L5H2L", b"PK\x01\x02", 20, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0
    )
    directory = (entry + b"a") * count
    size, start = len(directory), len(local)
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, start)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, start + size, 1)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, size, 0xFFFFFFFF, 0)
    return local + directory + end64 + locator + end


def overlapping_zip() -> bytes:
    """Each entry is the same packed archive of 40 MiB."""
    return attach("o.zip", make_overlapping(9000, deflate(make_zip({"z": bytes(40 << 20)}, 0))))


@functools.cache
def gzip_zeros(beginning: bytes, mebibytes: int) -> bytes:
    """Pack ``beginning`` and so many MiB of zeros, without packing each of them."""
    zeros = bytes(1 << 20)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(beginning) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    check = zlib.crc32(beginning)
    for _ in range(mebibytes):
        check = zlib.crc32(zeros, check)
    size = (len(beginning) + (mebibytes << 20)) & 0xFFFFFFFF
    head = b"\x1f\x8b\x08\0\0\0\0\0\2\3"
    return head + first + again * mebibytes + packer.flush() + struct.pack("<2L", check, size)


def tar_entry(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    """Return one entry's header, of any size it likes to say."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.type, entry.linkname = size, kind, link
    return entry.tobuf(tarfile.GNU_FORMAT)


def gzip_bomb() -> bytes:
    """A gibibyte of zeros that nobody has to unpack to know its name."""
    return attach("zeros.gz", gzip_zeros(b"", 1024))


def tar_gzip_bomb() -> bytes:
    """The same as a file in a tar: what comes behind it has a name, too."""
    return attach("zeros.tar.gz", gzip_zeros(tar_entry("zeros", 1 << 30), 1024))


def tar_bzip2_bomb() -> bytes:
    """Bzip2 packs zeros a hundred times better, and packed streams may follow each other."""
    streams = bz2.compress(bytes(8 << 20)) * 1000
    return attach("zeros.tar.bz2", bz2.compress(tar_entry("zeros", 1 << 33)) + streams)


def tar_xz_bomb() -> bytes:
    """The same with xz, whose dictionary is as large as it is made."""
    begin = lzma.compress(tar_entry("zeros", 1 << 33))
    return attach("zeros.tar.xz", begin + lzma.compress(bytes(8 << 20), preset=9) * 1000)


def tar_links() -> bytes:
    """Links in a circle, each below the other."""
    entries = [tar_entry(f"{n}/", 0, tarfile.SYMTYPE, f"{n + 1}/../..") for n in range(40_000)]
    return attach("links.tar", b"".join(entries))


def tar_sparse() -> bytes:
    """A sparse file of eight exbibytes, in octets that are not there."""
    entry = tar_entry("sparse", (1 << 63) - 1, tarfile.GNUTYPE_SPARSE)
    return attach("sparse.tar", entry + bytes(1 << 20))


def tar_maps() -> bytes:
    """A sparse file whose map goes on to the end of the message."""
    entry = bytearray(tar_entry("sparse", 0, tarfile.GNUTYPE_SPARSE))
    entry[482] = 1
    entry[148:156] = b"%06o\0 " % (sum(entry[:148]) + 256 + sum(entry[156:]))
    block = bytes(504) + b"\1" + bytes(7)
    return attach("maps.tar", bytes(entry) + block * 60_000)


# -- structure


def nested_multiparts(depth: int = 10_000) -> bytes:
    """Each part is a multipart with one part."""
    layers = b"".join(
        b'Content-Type: multipart/mixed; boundary="%05d"\r\n\r\n--%05d\r\n' % (n, n)
        for n in range(depth)
    )
    ends = b"".join(b"--%05d--\r\n" % n for n in reversed(range(depth)))
    return _HEAD + layers + b"\r\nin\r\n" + ends


def many_parts() -> bytes:
    """A hundred thousand parts."""
    parts = b"--b\r\n\r\nx\r\n" * 100_000
    return _HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + parts + b"--b--\r\n"


def long_boundary() -> bytes:
    """A boundary of a thousand characters, and lines that nearly are it."""
    boundary = b"b" * 1000
    lines = (b"--" + boundary[:-1] + b"\r\n") * 10_000
    return (
        _HEAD + b"Content-Type: multipart/mixed;\r\n\tboundary=" + boundary + b"\r\n\r\n" + lines
        + b"--" + boundary + b"\r\n\r\nx\r\n--" + boundary + b"--\r\n"
    )  # fmt: skip


def near_boundaries() -> bytes:
    """Lines that begin like the boundary, and go on."""
    lines = b"--bb\r\n" * 1_000_000
    return _HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + lines + b"--b--\r\n"


def nested_messages() -> bytes:
    """Messages in messages."""
    return _HEAD + b"Content-Type: message/rfc822\r\n\r\n" * 10_000 + b"\r\nin\r\n"


def encoded_messages() -> bytes:
    """Messages in messages, each encoded once more, of line ends in the end."""
    message = b"Content-Type: text/plain\r\n\r\n" + b"\n" * (9 << 20)
    for _ in range(4):
        encoded = base64.b64encode(message)
        head = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        message = head + b"\r\n".join(encoded[n : n + 990] for n in range(0, len(encoded), 990))
    return _HEAD + message + b"\r\n"


# -- heads


def many_fields() -> bytes:
    """A million header fields."""
    return b"X: y\r\n" * 1_000_000 + _HEAD + _TEXT + b"x\r\n"


def short_fields() -> bytes:
    """As many fields as a head may hold."""
    return b"Subject:\r\n" * 25_000 + _HEAD + _TEXT + b"x\r\n"


def long_field() -> bytes:
    """A header field of 200 KiB that nobody asked for."""
    return make_plain(b"x\r\n", b"X-Long:" + b"\r\n\tword" * 30_000)


def long_subject() -> bytes:
    """The same, where a rule looks."""
    return make_plain(b"x\r\n", b"Subject:" + b"\r\n\tword" * 30_000)


def endless_words() -> bytes:
    """Encoded words that begin and do not end."""
    return make_plain(b"x\r\n", b"Subject: " + b"=?utf-8?b?" * 6000)


def many_charsets() -> bytes:
    """Encoded words, each in a charset of its own that nobody knows."""
    words = b"\r\n ".join(b"=?x%d?q?a?=" % n for n in range(4000))
    return make_plain(b"x\r\n", b"Subject: " + words)


def many_pieces() -> bytes:
    """A file's name in a hundred thousand pieces (RFC 2231)."""
    pieces = b";\r\n ".join(b"filename*%d*=%%41" % n for n in range(100_000))
    return (
        _HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: a/b\r\n"
        b"Content-Disposition: attachment;\r\n " + pieces + b"\r\n\r\nx\r\n--b--\r\n"
    )  # fmt: skip


def backtracking(letters: bytes) -> bytes:
    """A subject that patterns of the naive kind never finish with."""
    return make_plain(b"x\r\n", b"Subject: " + letters * (60_000 // len(letters)) + b"!")


# -- texts


def garbage(encoding: bytes, content_type: bytes, line: bytes, size: int = LARGEST - 1000) -> bytes:
    """A message of one part that is full of this line, in this transfer encoding."""
    return (
        _HEAD + b"Content-Type: " + content_type + b"\r\nContent-Transfer-Encoding: " + encoding
        + b"\r\n\r\n" + line * (size // len(line))
    )  # fmt: skip


def single_line() -> bytes:
    """All of a large message in one line."""
    return make_plain(b"x" * (LARGEST - 1000) + b"\r\n")


BOMBS: dict[str, Callable[[], bytes]] = {
    "zips in zips, as 42.zip": nested_zips,
    "a zip in itself": lambda: attach("r.zip", make_quine()),
    "a zip of 500,000 entries": lambda: attach("many.zip", crowded_zip(500_000)),
    "a zip of 1,000,000 entries, packed": lambda: attach(
        "many.zip.gz", gzip_pack(crowded_zip(1_000_000))
    ),
    "a zip whose entries overlap": overlapping_zip,
    "a gibibyte in gzip": gzip_bomb,
    "a gibibyte in a tar in gzip": tar_gzip_bomb,
    "eight gibibytes in a tar in bzip2": tar_bzip2_bomb,
    "eight gibibytes in a tar in xz": tar_xz_bomb,
    "a tar of links in a circle": tar_links,
    "a tar of eight exbibytes": tar_sparse,
    "a tar with an endless map": tar_maps,
    "10,000 multiparts in each other": nested_multiparts,
    "100,000 parts": many_parts,
    "a boundary of 1,000 characters": long_boundary,
    "1,000,000 lines like a boundary": near_boundaries,
    "10,000 messages in each other": nested_messages,
    "encoded messages in each other": encoded_messages,
    "1,000,000 fields": many_fields,
    "25,000 fields": short_fields,
    "a field of 200 KiB": long_field,
    "a subject of 200 KiB": long_subject,
    "encoded words without end": endless_words,
    "4,000 charsets": many_charsets,
    "a name in 100,000 pieces": many_pieces,
    "a subject of the letter a": lambda: backtracking(b"a"),
    "a subject of the letter x": lambda: backtracking(b"x"),
    "a subject of blanks": lambda: backtracking(b"a " * 20),
    "a line of 49 MiB": single_line,
}  # fmt: skip

# Transfer encoding, type, and the line that is repeated.
_TEXTS: dict[str, tuple[bytes, bytes, bytes]] = {
    "base64 of garbage": (
        b"base64", b'application/zip; name="a.zip"', b"!@#$%^&*()-_" * 6 + b"\r\n"
    ),
    "base64 of padding": (b"base64", b"text/plain", b"=" * 76 + b"\r\n"),
    "base64 of line ends": (b"base64", b"message/rfc822", base64.b64encode(b"aa\n" * 19) + b"\r\n"),
    "blanks in quoted-printable": (b"quoted-printable", b"text/plain", b"aa \r\n"),
    "soft line ends in quoted-printable": (b"quoted-printable", b"text/plain", b"=\r\n"),
    "lines of 998 octets": (b"7bit", b"text/plain", b"x" * 998 + b"\r\n"),
    "lines of no octets": (b"7bit", b"text/plain", b"\r\n"),
    "lines of a file in the text": (b"7bit", b"text/plain", b"begin 644 x\r\n"),
    "one file in the text": (b"7bit", b"text/plain", b"xbegin \r\n" + b"\r\n" * 512),
    "comments in HTML": (b"7bit", b"text/html", b"<!---->\r\n"),
    "comments without end in HTML": (b"7bit", b"text/html", b"<!-- <!--\r\n"),
    "ends of bodies in HTML": (b"7bit", b"text/html", b"</body></html>\r\n"),
    "HTML in UTF-16": (
        b"base64", b"text/html; charset=utf-16",
        base64.b64encode("</body>".encode("utf-16-le") * 3) + b"\r\n",
    ),
}  # fmt: skip
BOMBS |= {name: functools.partial(garbage, *text) for name, text in _TEXTS.items()}
# As large as a text may be that gets a footer.
FITTING = {
    name: functools.partial(garbage, *text, size=(2 << 20) - 1000) for name, text in _TEXTS.items()
}


def gzip_pack(octets: bytes) -> bytes:
    """Pack as gzip does."""
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    file = io.BytesIO()
    file.write(packer.compress(octets))
    file.write(packer.flush())
    return file.getvalue()
