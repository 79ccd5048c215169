"""Messages of many structures, written by hand; and how the standard library reads them.

``email`` is what we compare with: it is nowhere on the way that mail takes.
"""

import base64
import csv
import email
import email.message
import quopri
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import strategies as st

CORPUS = Path(__file__).parents[2].parent / "shared" / "corpus" / "eml"
needs_corpus = pytest.mark.skipif(not CORPUS.is_dir(), reason="no corpus beside the project")
# What has no form in which SMTP carries it.
_NOT_NEUTRAL = {"eol_cr", "eol_mixed", "bare_cr", "bare_lf", "nul"}


def make_part(content_type: str, body: bytes, encoding: str = "", disposition: str = "") -> bytes:
    """Return a part; ``body`` is encoded here. What is "" has no field."""
    head = f"Content-Type: {content_type}\r\n" if content_type else ""
    head += f"Content-Transfer-Encoding: {encoding}\r\n" if encoding else ""
    head += f"Content-Disposition: {disposition}\r\n" if disposition else ""
    return head.encode() + b"\r\n" + encode(body, encoding)


def encode(body: bytes, encoding: str) -> bytes:
    if encoding == "base64":
        return base64.encodebytes(body).replace(b"\n", b"\r\n")
    if encoding == "quoted-printable":
        # As octets: the library's own line ends are not those of mail.
        lines = (quopri.encodestring(line).replace(b"\n", b"\r\n") for line in body.split(b"\r\n"))
        return b"\r\n".join(line.replace(b"--", b"=2D-") for line in lines)
    return body


def make_multipart(subtype: str, *parts: bytes, boundary: str = "b", more: str = "") -> bytes:
    """Return a multipart as a part; ``more``: parameters."""
    head = f'Content-Type: multipart/{subtype}; boundary="{boundary}"{more}\r\n\r\n'.encode()
    delimiter = f"--{boundary}".encode()
    body = b"".join(delimiter + b"\r\n" + part + b"\r\n" for part in parts)
    return head + b"preamble\r\n" + body + delimiter + b"--\r\nepilogue\r\n"


def make_message(part: bytes) -> bytes:
    """Return a part as a message."""
    return b"From: a@acme.test\r\nSubject: x\r\nMIME-Version: 1.0\r\n" + part


@dataclass(frozen=True)
class Sample:
    """A message of the corpus, with CRLF."""

    name: str
    content: bytes


def read_corpus() -> Iterator[Sample]:
    """Yield the messages of the corpus that SMTP can carry."""
    with (CORPUS / "INDEX.tsv").open(encoding="utf-8", newline="") as index:
        for row in csv.DictReader(index, delimiter="\t", quoting=csv.QUOTE_NONE):
            features = set(row["features"].split(","))
            if features & _NOT_NEUTRAL:
                continue
            content = (CORPUS / row["file"]).read_bytes()
            if "eol_lf" in features:
                content = content.replace(b"\n", b"\r\n")
            yield Sample(row["file"], content)


def walk_like_mail(message: email.message.Message) -> Iterator[email.message.Message]:
    """Yield parts as the library finds them, without the blocks that it makes of a report's fields."""
    yield message
    inside = message.get_payload()
    kind = message.get_content_type()
    is_message = kind in ("message/rfc822", "message/global")
    if isinstance(inside, list) and (is_message or not kind.startswith("message/")):
        for part in inside:
            yield from walk_like_mail(part)


def read_email(message: bytes) -> list[email.message.Message]:
    """Return all parts of a message as the library finds them."""
    return list(walk_like_mail(email.message_from_bytes(message)))


WORDS = st.sampled_from(
    ["Hello", "Grüße", "日本語", "--b", "--bb--", ".", "", "=20", "<b>x</b>", "</body>", "a " * 60, "From me", "> q", "€"]
)  # fmt: skip
_CHARSETS = {"us-ascii": 1, "utf-8": 4, "iso-8859-1": 1, "iso-8859-15": 2, "shift_jis": 2, "iso-2022-jp": 2, "utf-16": 2}  # fmt: skip


@st.composite
def texts(draw: st.DrawFn, kinds: tuple[str, ...] = ("plain", "html")) -> bytes:
    """A text part: any of some charsets and encodings that fit together."""
    charset = draw(st.sampled_from(sorted(_CHARSETS)))
    lines = draw(st.lists(WORDS, max_size=6))
    end = "\r\n" * draw(st.booleans())
    body = ("\r\n".join(lines) + end).encode(charset, "replace")
    fitting = ["base64", "quoted-printable"]
    if b"\0" not in body and b"--b" not in body:
        fitting.append("7bit" if body.isascii() else "8bit")
        fitting += [""] * body.isascii()
    encoding = draw(st.sampled_from(fitting))
    more = draw(st.sampled_from(["", "; format=flowed", "; x=y"]))
    kind = draw(st.sampled_from(kinds))
    if encoding == "quoted-printable" and charset == "utf-16":
        encoding = "base64"
    return make_part(f"text/{kind}; charset={charset}{more}", body, encoding)


FILES = st.sampled_from(
    [
        make_part("application/pdf", bytes(range(256)), "base64", 'attachment; filename="a b.pdf"'),
        make_part("image/png", b"\x89PNG", "base64", "inline; filename=x.png"),
        make_part("text/plain", b"a file\r\n", "", "attachment; filename*=utf-8''%C3%A4.txt"),
        make_part("message/rfc822", make_message(make_part("text/plain", b"inner\r\n"))),
        make_part("text/calendar; method=REQUEST", b"BEGIN:VCALENDAR\r\n"),
    ]
)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A message with a text somewhere."""
    part = draw(texts())
    shape = draw(st.sampled_from(["text", "alternative", "related", "mixed", "all"]))
    if shape in ("alternative", "all"):
        part = make_multipart("alternative", draw(texts(("plain",))), draw(texts(("html",))))
    if shape in ("related", "all"):
        part = make_multipart("related", part, draw(FILES), boundary="bbr")
    if shape in ("mixed", "all"):
        files = draw(st.lists(FILES, max_size=3))
        part = make_multipart("mixed", part, *files, boundary="bbm")
    return make_message(part)
