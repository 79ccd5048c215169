"""What the head of a part says about it."""

import re
from dataclasses import dataclass, field

from relay.mime.charset import clean, read_text
from relay.mime.fields import unfold
from relay.mime.limits import Unreadable
from relay.mime.parameters import Value, join_pieces, read_value, strip_comments
from relay.mime.words import decode_words

ENCODINGS = frozenset({"7bit", "8bit", "binary", "base64", "quoted-printable"})
ENCODED = frozenset({"base64", "quoted-printable"})

# Octets of a field that says what a part is. Names of 255 characters, encoded, take about 3000.
_LONGEST = 8 * 1024
# A head may have thousands of fields in each of a thousand parts: these two go through it without
# a step of Python for each. They take the same for a field as ``find_fields``.
_WELL_FORMED = re.compile(
    rb"(?:[!-9;-\xff]++[ \t]*+:[^\r\n]*+(?:\r\n[ \t][^\r\n]*+)*+(?:\r\n|\Z))*+(?:\r\n)?+"
)
_OURS = re.compile(
    rb"(?:\A|\r\n)(content-(?:type|disposition|transfer-encoding))([ \t]*+):"
    rb"([^\r\n]*+(?:\r\n[ \t][^\r\n]*+)*+)",
    re.IGNORECASE,
)
_TYPE = re.compile(rb"([!#-'*+\-.0-9A-Z^_`a-z{|}~]+/[!#-'*+\-.0-9A-Z^_`a-z{|}~]+)(?=[\s(]|\Z)")
_BLANK_FOLD = re.compile(rb"\r\n[ \t]*(?:\r\n|\Z)")
# RFC 2046 §5.1.1: 70 characters; some write more. ";" and quotes would need quoting on the way.
_BOUNDARY = re.compile(r"[ -~]{0,199}[!-~]")
_NAIVE = re.compile(rb'name[*0-9]*[ \t]*=[ \t]*(?:"([^"]*)"?|([^;"\s]+))', re.IGNORECASE)
_HIDING = (b"base64", b"quoted", b"uu")  # in an encoding that is none as written
# What is one part, but not the only one of what it is a part of (RFC 2046 §5.2.2).
_FRAGMENT = "message/partial"


@dataclass(frozen=True, slots=True)
class Description:
    """What a head says."""

    content_type: str
    parameters: dict[str, str] = field(default_factory=dict)
    boundary: bytes = b""  # of a multipart
    disposition: str = ""
    names: tuple[str, ...] = ()
    encoding: str = "7bit"


def describe(head: bytes, default: str) -> Description:
    """Read what a head says of its part; ``default``: the type where none is said.

    Raises Unreadable where readers would see different things in it.
    """
    found = _choose(head)
    content_type = default
    parameters: dict[str, str] = {}
    type_value = read_value(found.get(b"content-type", b""))
    if b"content-type" in found and unfold(found[b"content-type"]).strip():
        content_type = _read_type(type_value)
        for name, octets, charset in join_pieces(type_value.parameters):
            parameters.setdefault(name, _show(octets, charset))
    disposition_value = read_value(found.get(b"content-disposition", b""))
    names = [
        *_find_names(found.get(b"content-disposition", b""), disposition_value, "filename"),
        *_find_names(found.get(b"content-type", b""), type_value, "name"),
    ]
    encoding = _read_encoding(found.get(b"content-transfer-encoding", b""))
    boundary = b""
    if content_type.startswith("multipart/"):
        boundary = _read_boundary(type_value, encoding)
    if content_type == _FRAGMENT:
        raise Unreadable("a fragment of a message (message/partial)")
    return Description(
        content_type,
        parameters,
        boundary,
        _read_disposition(disposition_value, found.get(b"content-disposition", b"")),
        tuple(dict.fromkeys(names)),
        encoding,
    )


def _choose(head: bytes) -> dict[bytes, bytes]:
    """Return the values that say what a part is, by name in lower case."""
    if not _WELL_FORMED.fullmatch(head):
        raise Unreadable("a line in a head is not a header field")
    found: dict[bytes, bytes] = {}
    for match in _OURS.finditer(head):
        name, value = match[1].lower(), match[3]
        _check(name.decode().title(), value, spaced=bool(match[2]))
        # Of two that differ some readers take the first, others the last.
        if found.setdefault(name, value).strip() != value.strip():
            raise Unreadable(f"there are two {name.decode().title()} fields in one head")
    return found


def _check(name: str, value: bytes, *, spaced: bool) -> None:
    if spaced:
        raise Unreadable(f"there are blanks between {name} and its colon")
    if len(value) > _LONGEST:
        raise Unreadable(f"a {name} field has more than {_LONGEST} octets")
    if _BLANK_FOLD.search(value):
        # To some readers the head ends at a line of blanks.
        raise Unreadable(f"a {name} field is folded with a line of blanks")


def _read_type(value: Value) -> str:
    match = _TYPE.match(value.main)
    if match is None:
        if value.main == b"text":  # of before MIME (RFC 1049); all take it for text/plain
            return "text/plain"
        raise Unreadable("a Content-Type is none")
    content_type = match[1].decode("ascii")
    if content_type.startswith(("multipart/", "message/")) and match.end() < len(value.main):
        raise Unreadable("something stands behind the type in a Content-Type")
    return content_type


def _read_boundary(value: Value, encoding: str) -> bytes:
    if encoding not in ENCODINGS - ENCODED:
        # RFC 2045 §6.4 forbids it; some readers decode, others do not.
        raise Unreadable("a multipart has a transfer encoding")
    if not value.clean:
        raise Unreadable("the Content-Type of a multipart is written ambiguously")
    said = {one.value for one in value.parameters if one.name.startswith(b"boundary")}
    names = {one.name for one in value.parameters if one.name.startswith(b"boundary")}
    if not said:
        raise Unreadable("a multipart has no boundary")
    if names != {b"boundary"} or len(said) > 1:
        raise Unreadable("a multipart has two boundaries, or one in pieces")
    boundary = said.pop()
    if not _BOUNDARY.fullmatch(boundary.decode("latin-1")):
        raise Unreadable(
            "the boundary of a multipart is empty, too long, or not of printable ASCII"
        )
    return boundary


def _read_encoding(raw: bytes) -> str:
    encoding = read_text(unfold(raw)).strip().lower()
    if not encoding or encoding in ENCODINGS:
        return encoding or "7bit"
    if any(one in raw.lower() for one in _HIDING):
        raise Unreadable("a transfer encoding that some readers undo and others do not")
    return clean(encoding)[:80]


def _read_disposition(value: Value, raw: bytes) -> str:
    if not raw.strip():
        return ""
    return "inline" if value.main.partition(b"(")[0].strip() == b"inline" else "attachment"


def _find_names(raw: bytes, value: Value, parameter: str) -> list[str]:
    """Return the names that readers may show; what most show goes first."""
    found = [(octets, charset) for name, octets, charset in join_pieces(value.parameters)
             if name == parameter]  # fmt: skip
    plain = parameter.encode()
    found += [(one.written, "") for one in value.parameters if one.name == plain]
    if not value.clean:
        bare = unfold(raw)
        other = read_value(strip_comments(bare))
        found += [(one.value, "") for one in other.parameters if one.name == plain]
        found += [(match[1] or match[2] or b"", "") for match in _NAIVE.finditer(bare)]
    names = (_show(octets, charset) for octets, charset in found)
    return [name for name in names if name]


def _show(octets: bytes, charset: str) -> str:
    if charset:
        return clean(read_text(octets, charset))
    return clean(decode_words(octets) if b"=?" in octets else read_text(octets))
