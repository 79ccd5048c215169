"""Where the parts of a message begin and end."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.mime import Limits, Part, Unreadable, decode, read_message, walk
from tests.kit.mime import make_message, make_multipart, make_part, messages, read_email


def see(octets: bytes, part: Part) -> object:
    """Return a part's type, and what is in it."""
    if part.parts:
        return (part.content_type, *(see(octets, inner) for inner in part.parts))
    return (part.content_type, octets[part.body : part.end])


def read(octets: bytes, limits: Limits | None = None) -> object:
    return see(octets, read_message(octets, limits or Limits()))


TEXT = make_part("text/plain", b"text")
HTML = make_part("text/html", b"html\r\n")
NESTED = make_multipart("alternative", TEXT, HTML, boundary="bb")


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"", ("text/plain", b"")),
        (b"\r\nbody", ("text/plain", b"body")),
        (b"A: b", ("text/plain", b"")),
        (b"A: b\r\n", ("text/plain", b"")),
        (b"A: b\r\n\r\n\r\nbody\r\n", ("text/plain", b"\r\nbody\r\n")),
        (TEXT, ("text/plain", b"text")),
        (
            make_multipart("mixed", TEXT, HTML),
            ("multipart/mixed", ("text/plain", b"text"), ("text/html", b"html\r\n")),
        ),
        # The inner boundary begins like the outer one.
        (
            make_multipart("mixed", NESTED, TEXT),
            (
                "multipart/mixed",
                ("multipart/alternative", ("text/plain", b"text"), ("text/html", b"html\r\n")),
                ("text/plain", b"text"),
            ),
        ),
        (
            make_multipart("digest", b"\r\nSubject: in\r\n\r\nbody"),
            ("multipart/digest", ("message/rfc822", ("text/plain", b"body"))),
        ),
        (
            make_part("message/rfc822", make_multipart("mixed", TEXT)),
            ("message/rfc822", ("multipart/mixed", ("text/plain", b"text"))),
        ),
        # Encoded: it is decoded only when somebody wants to know.
        (make_part("message/rfc822", b"A", "base64"), ("message/rfc822", b"QQ==\r\n")),
        # Blanks behind a boundary; no part at all; an end that is missing; one that is there twice.
        (b"Content-Type: multipart/x; boundary=b\r\n\r\n--b \t\r\n\r\nx\r\n--b-- \r\n",
         ("multipart/x", ("text/plain", b"x"))),
        (b"Content-Type: multipart/x; boundary=b\r\n\r\n--b--", ("multipart/x", b"--b--")),
        (b"Content-Type: multipart/x; boundary=b\r\n\r\n--b\r\n\r\nx\r\n",
         ("multipart/x", ("text/plain", b"x\r\n"))),
        (b"Content-Type: multipart/x; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n--b--",
         ("multipart/x", ("text/plain", b"x"))),
        (b"Content-Type: multipart/x; boundary=b\r\n\r\n--b\r\n--b\r\n\r\n--b--",
         ("multipart/x", ("text/plain", b""), ("text/plain", b""))),
        # A line of a longer boundary is one of that alone, also with no inner part around.
        (b"Content-Type: multipart/x; boundary=b\r\n\r\n--b\r\nA: b\r\n--b--",
         ("multipart/x", ("text/plain", b""))),
    ],
)  # fmt: skip
def test_parts(octets: bytes, expected: object) -> None:
    assert read(octets) == expected


def test_offsets_are_those_of_the_message() -> None:
    octets = make_message(make_multipart("mixed", TEXT, HTML))
    root = read_message(octets)

    assert (root.start, root.end) == (0, len(octets))
    assert octets[root.body :].startswith(b"preamble")
    assert [octets[part.start : part.end] for part in root.parts] == [TEXT, HTML]
    assert octets[root.parts[0].start : root.parts[0].body].endswith(b"\r\n\r\n")


HEAD = b"Content-Type: multipart/x; boundary=b\r\n\r\n"


@pytest.mark.parametrize(
    "octets",
    [
        b"a\nb",
        b"A: b\r\n\r\n\rx",
        b"A: b\r\n\r\n\0",
        HEAD + b"no boundary",
        HEAD,
        HEAD + b"--bc\r\n\r\nx",
        HEAD + b"--b\r\n\r\nx\r\n--bc\r\n\r\ny\r\n--b--",
        HEAD + b"--b\r\n\r\nx\r\n--b--c\r\n--b--",
        HEAD + b"--b\r\n\r\nx\r\n--b--\r\n--b\r\nContent-Type: application/zip\r\n\r\ny",
        HEAD + b"--b\r\nnot a field\r\n--b--",
        HEAD + b"--b\r\n" + HEAD + b"--b\r\n\r\nx\r\n--b--\r\n--b--",
    ],
)
def test_what_readers_take_apart_differently_is_not_read(octets: bytes) -> None:
    with pytest.raises(Unreadable):
        read(octets)


def nest(depth: int) -> bytes:
    part = TEXT
    for number in range(depth):
        part = make_multipart("mixed", part, boundary=f"x{number}x")
    return part


def test_bounds() -> None:
    assert len(list(walk(read_message(nest(20))))) == 21
    with pytest.raises(Unreadable, match="deep"):
        read_message(nest(21))
    many = make_multipart("mixed", *[TEXT] * 10)
    assert len(list(walk(read_message(many, Limits(parts=11))))) == 11
    with pytest.raises(Unreadable, match="parts"):
        read_message(many, Limits(parts=10))
    assert read_message(b"A: b\r\n\r\n", Limits(head=8))
    with pytest.raises(Unreadable, match="head"):
        read_message(b"A: bc\r\n\r\n", Limits(head=8))


def make_hostile(size: int) -> dict[str, bytes]:
    """Return messages of about ``size`` octets that are a lot of work to who goes about it badly."""
    half = "a" * 60
    nested = b"".join(
        f"--{half}{'a' * (n % 100)}\r\nContent-Type: multipart/x; boundary={half}a{'a' * (n % 100)}\r\n\r\n".encode()
        for n in range(size // 250)
    )
    inner = b"--b\r\nContent-Type: multipart/x; boundary=c\r\n\r\n"
    return {
        "prefixes": f"Content-Type: multipart/x; boundary={half}\r\n\r\n".encode() + nested,
        "absent": HEAD + inner + b"x" * size,
        "one after another": HEAD + inner * (size // len(inner)),
        "almost": f"Content-Type: multipart/x; boundary={half}b\r\n\r\n".encode()
        + f"\r\n--{half}".encode() * (size // 64),
        "hyphens": HEAD + b"--\r\n" * (size // 4),
        "suspects": HEAD + b"--bb\r\n" * (size // 6),
        "ends": HEAD + b"--b--\r\n" * (size // 7),
        "heads": HEAD + (b"--b\r\n" + b"A:\r\n" * 50_000) * (size // 200_000),
        "head": b"A: b\r\n" * (size // 6),
        "fold": b"A: b" + b"\r\n " * (size // 3),
        "messages": b"Content-Type: message/rfc822\r\n\r\n" * (size // 32),
        "quotes": b'Content-Type: a/b; x="' + b'\\"' * (size // 2),
        "parameters": b"Content-Type: a/b" + b";a*1=b" * (size // 6),
        "blanks": make_part("text/plain", b" " * size, "quoted-printable"),
        "comments": b"Content-Type: a/b; name=" + b"(" * size,
    }


@pytest.mark.parametrize("kind", sorted(make_hostile(300)))
def test_hostile_messages_take_time_in_proportion(kind: str) -> None:
    """Fourfold size, at most about fourfold time: sixteenfold would be the square."""
    took = []
    for size in (1 << 20, 1 << 22):
        octets = make_hostile(size)[kind]
        started = time.perf_counter()
        try:
            for part in walk(read_message(octets)):
                decode(octets, part, 1 << 30)
        except Unreadable:
            pass
        took.append(time.perf_counter() - started)

    assert took[1] < max(10 * took[0], 0.5), took
    assert took[1] < 5


@settings(deadline=None)
@given(messages())
def test_parts_are_those_that_others_find(octets: bytes) -> None:
    ours = list(walk(read_message(octets)))
    theirs = read_email(octets)

    assert [part.content_type for part in ours] == [part.get_content_type() for part in theirs]
    assert [part.filename for part in ours] == [part.get_filename() or "" for part in theirs]
    for part, other in zip(ours, theirs, strict=True):
        if not part.parts:
            expected = other.get_payload(decode=True)
            assert isinstance(expected, bytes)
            content = decode(octets, part, len(octets))
            # The library reads lines with LF.
            assert content.replace(b"\r\n", b"\n") == expected.replace(b"\r\n", b"\n")


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_octets_are_read_or_refused(octets: bytes) -> None:
    try:
        root = read_message(octets)
    except Unreadable:
        return
    assert (root.start, root.end) == (0, len(octets))


@settings(deadline=None)
@given(messages(), st.data())
def test_damaged_messages_are_read_or_refused(octets: bytes, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(octets)))
        cut = data.draw(st.integers(0, 30))
        new = data.draw(
            st.sampled_from([b"", b"\r\n", b"--b", b"--", b'"', b";", b"\r\n\r\n", b":"])
        )
        octets = octets[:at] + new + octets[at + cut :]
    try:
        root = read_message(octets)
    except Unreadable:
        return
    for part in walk(root):
        assert 0 <= part.start <= part.body <= part.end <= len(octets)
        for inner in part.parts:
            assert part.body <= inner.start
            assert inner.end <= part.end
        for one, two in zip(part.parts, part.parts[1:], strict=False):
            assert one.end <= two.start
        assert len(decode(octets, part, 50)) <= 50
