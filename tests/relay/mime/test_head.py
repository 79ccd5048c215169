"""What a head says of its part: names in all the ways in which they are written."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.mime import Unreadable, decode_words, fields
from relay.mime.fields import find_fields
from relay.mime.head import describe


def read(head: str | bytes, default: str = "text/plain") -> tuple[str, str, tuple[str, ...]]:
    raw = head.encode() if isinstance(head, str) else head
    said = describe(raw.replace(b"\n", b"\r\n"), default)
    return said.content_type, said.disposition, said.names


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("", ("text/plain", "", ())),
        ("Content-Type: TEXT/Html; charset=x\n", ("text/html", "", ())),
        ("content-type:application/pdf;name=a.pdf\n", ("application/pdf", "", ("a.pdf",))),
        ("Content-Type: text\n", ("text/plain", "", ())),
        ("Content-Type:\n", ("text/plain", "", ())),
        ("Content-Type: text/plain (a comment)\n", ("text/plain", "", ())),
        ("Content-Disposition: INLINE\n", ("text/plain", "inline", ())),
        ("Content-Disposition: form-data\n", ("text/plain", "attachment", ())),
        ("Content-Disposition: filename=a.exe\n", ("text/plain", "attachment", ("a.exe",))),
    ],
)
def test_a_head_says(head: str, expected: tuple[str, str, tuple[str, ...]]) -> None:
    assert read(head) == expected


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ('filename="a b.pdf"', "a b.pdf"),
        ("filename=a b (1).pdf", "a b (1).pdf"),
        ("filename=a.pdf; size=3", "a.pdf"),
        (r'filename="a\"b.pdf"', 'a"b.pdf'),
        ('filename="a.pdf', "a.pdf"),
        ('filename = "a.pdf"', "a.pdf"),
        ('x="; filename=no"; filename=yes', "yes"),
        ('filename="a;b.pdf"', "a;b.pdf"),
        ("filename*=utf-8''%C3%A4%20b.pdf", "ä b.pdf"),
        ("filename*=iso-8859-1'de'%E4.pdf", "ä.pdf"),
        ("filename*=nonsense''%C3%A4.pdf", "ä.pdf"),
        ("filename*0=a; filename*1=b.pdf", "ab.pdf"),
        ("filename*1*=%A4.pdf; filename*0*=utf-8''%C3", "ä.pdf"),
        ("filename=plain.pdf; filename*=utf-8''real.exe", "real.exe"),
        ('filename="=?utf-8?B?w6QucGRm?="', "ä.pdf"),
        ('filename="=?utf-8?B?ww==?=\n =?utf-8?B?pC5wZGY=?="', "ä.pdf"),
        ('filename="=?utf-8?Q?=C3=A4 b.pdf?="', "ä b.pdf"),
        ("filename==?utf-8?Q?a=2Eexe?=", "a.exe"),
        ('filename="a\tb\x1b.pdf"', "ab.pdf"),
        ("filename=a\n .pdf", "a .pdf"),
    ],
)
def test_a_file_name_is_read(written: str, name: str) -> None:
    assert read(f"Content-Disposition: attachment; {written}\n")[2][0] == name


@pytest.mark.parametrize(
    ("written", "others"),
    [
        ('filename="a.txt"; filename="b.exe"', {"a.txt", "b.exe"}),
        ('filename="a.exe".txt', {"a.exe", "a.exe.txt"}),
        ("filename=a.exe(.txt)", {"a.exe(.txt)", "a.exe"}),
        ('(";) filename=a.exe (")', {"a.exe"}),
        ('x=a"; filename=a.exe; y="b', {"a.exe"}),
        (r'filename="a\.exe"', {"a.exe", r"a\.exe"}),
        ("filename=a.txt; filename*=utf-8''b.exe", {"a.txt", "b.exe"}),
    ],
)
def test_where_readers_see_different_names_all_are_told(written: str, others: set[str]) -> None:
    assert others <= set(read(f"Content-Disposition: attachment; {written}\n")[2])


def test_octets_that_are_no_text_are_replaced() -> None:
    names = read(b'Content-Disposition: attachment; filename="\xe4.pdf"\n')[2]

    assert names == ("\ufffd.pdf",)


def test_the_disposition_comes_before_the_type() -> None:
    names = read('Content-Type: a/b; name=b.exe\nContent-Disposition: attachment; filename="a"\n')[
        2
    ]

    assert names == ("a", "b.exe")


@pytest.mark.parametrize(
    "head",
    [
        "Content-Type: text/plain\nContent-Type: application/zip\n",
        "Content-Disposition: inline\nContent-disposition: attachment\n",
        "Content-Transfer-Encoding: 7bit\nContent-Transfer-Encoding: base64\n",
        "Content-Transfer-Encoding: base64;\n",
        'Content-Transfer-Encoding: "quoted-printable"\n',
        "Content-Type : text/plain\n",
        "Content-Type: multipart\n",
        "Content-Type: (a) multipart/mixed; boundary=b\n",
        "Content-Type: multipart/mixed\n",
        'Content-Type: multipart/mixed; boundary=""\n',
        'Content-Type: multipart/mixed; boundary="b "\n',
        "Content-Type: multipart/mixed; boundary=b; boundary=c\n",
        "Content-Type: multipart/mixed; boundary*0=b\n",
        "Content-Type: multipart/mixed; boundary=b (c)\n",
        "Content-Type: multipart/mixed; (;) boundary=b\n",
        'Content-Type: multipart/mixed; boundary="b"c\n',
        'Content-Type: multipart/mixed; x=a"; boundary=b; y="c\n',
        "Content-Type: multipart/mixed (c); boundary=b\n",
        "Content-Type: multipart/mixed x; boundary=b\n",
        "Content-Type: multipart/mixed;\n \n boundary=b\n",
        "Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: base64\n",
        "Content-Type: message/partial; id=1; number=1\n",
        "Content-Disposition: attachment; filename*0=a; filename*2=b\n",
        "Content-Disposition: attachment; filename*0=a; filename*0=b\n",
        "Content-Disposition: attachment; filename*00=a\n",
        "Content-Type: text/plain; name=" + "x" * 9000 + "\n",
        "Subject: x\nno field\nContent-Type: text/html\n",
        " Content-Type: text/plain\n",
    ],
)
def test_what_readers_understand_differently_is_not_read(head: str) -> None:
    with pytest.raises(Unreadable):
        read(head)


def test_the_same_field_twice_is_no_difference() -> None:
    assert read("Content-Type: text/html\nContent-Type:  text/html\n")[0] == "text/html"


def test_fields() -> None:
    head = b"A: 1\r\nB :2\r\n 3\r\nno field\r\nc:\r\n\r\nD: body\r\n"

    assert list(fields(head)) == [(b"A", b" 1"), (b"B", b"2 3"), (b"c", b"")]


@settings(deadline=None)
@given(st.lists(st.sampled_from([b"A", b":", b" ", b"\r\n", b"\t", b"\xe4", b"\x01"]), max_size=12))
def test_a_head_is_refused_for_the_lines_that_are_no_fields(pieces: list[bytes]) -> None:
    head = b"".join(pieces)
    end = head.find(b"\r\n\r\n")
    head = b"\r\n" if head.startswith(b"\r\n") else head if end < 0 else head[: end + 4]

    good = all(field.name for field in find_fields(head))
    try:
        describe(head, "text/plain")
    except Unreadable:
        assert not good
    else:
        assert good


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"plain", "plain"),
        (b"a =?utf-8?q?=C3=A4_b?= c", "a ä b c"),
        (b"=?utf-8?q?a?=  =?iso-8859-1?q?=E4?=", "aä"),
        (b"=?utf-8*de?b?w6Q?=", "ä"),
        (b"=?zip?b?AAAA?=", "\0\0\0"),
        (b"=?utf-8?x?a?=", "=?utf-8?x?a?="),
        (b"=?utf-8?q?a", "=?utf-8?q?a"),
        (b"=?punycode?q?a-?=", "a-"),
    ],
)
def test_encoded_words(value: bytes, text: str) -> None:
    assert decode_words(value) == text


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=60), st.integers(1, 20))
def test_a_text_cut_anywhere_into_words_is_whole_again(text: str, size: int) -> None:
    octets = text.encode()
    pieces = [octets[at : at + size] for at in range(0, len(octets), size)]
    words = [b"=?utf-8?q?" + b"".join(b"=%02X" % octet for octet in p) + b"?=" for p in pieces]

    assert decode_words(b" ".join(words)) == text


_BITS = st.sampled_from(
    [b'"', b"\\", b";", b"=", b"*", b"(", b")", b" ", b"\r\n ", b"filename", b"name", b"*0", b"'",
     b"%41", b"=?utf-8?q?", b"?=", b"boundary", b"a/b", b"multipart/x", b"\xe4", b"utf-8", b"\t"]
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(_BITS, max_size=25), st.lists(_BITS, max_size=25))
def test_whatever_stands_there_it_is_read_or_refused(one: list[bytes], two: list[bytes]) -> None:
    head = b"Content-Type: a/b;" + b"".join(one) + b"\r\nContent-Disposition:" + b"".join(two)
    try:
        said = describe(head + b"\r\n\r\n", "text/plain")
    except Unreadable:
        return
    for name in said.names:
        assert name.encode("utf-8")
        assert not any(ord(character) < 32 for character in name)
