"""A footer below the text, and all else as it was."""

import email
import html
import re
from email.message import Message

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.mime import Unreadable, decode, read_message, walk
from relay.mime.transfer import decode_quoted
from relay.rewrite import CannotChange, add_footer
from relay.rewrite.encode import encode_quoted
from relay.rewrite.html import find_place
from tests.kit.mime import (
    make_message,
    make_multipart,
    make_part,
    messages,
    needs_corpus,
    read_corpus,
    read_email,
)

FOOTER = "Acme Ltd.\nRegistered in Köln"
MARK = "Registered in"


def add(message: bytes, text: str = "Foot", html: str = "") -> bytes:
    return add_footer(message, text, html)


def text_of(message: bytes) -> bytes:
    """Return what a message of one part says, without its transfer encoding."""
    return decode(message, read_message(message), len(message))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b"\r\nFoot\r\n"),
        (b"A: b", b"A: b\r\n\r\nFoot\r\n"),
        (b"A: b\r\n", b"A: b\r\n\r\nFoot\r\n"),
        (b"A: b\r\n\r\n", b"A: b\r\n\r\nFoot\r\n"),
        (b"A: b\r\n\r\nHi", b"A: b\r\n\r\nHi\r\n\r\nFoot\r\n"),
        (b"A: b\r\n\r\nHi\r\n", b"A: b\r\n\r\nHi\r\n\r\nFoot\r\n"),
        (b"A: b\r\n\r\nHi\r\n\r\n", b"A: b\r\n\r\nHi\r\n\r\nFoot\r\n"),
        (b"Content-Transfer-Encoding: base64\r\n\r\nSGk=",
         b"Content-Transfer-Encoding: base64\r\n\r\nSGkNCg0KRm9vdA==\r\n"),
        (b"Content-Transfer-Encoding: base64\r\n\r\nSGkK\r\n",
         b"Content-Transfer-Encoding: base64\r\n\r\nSGkKCkZvb3QK\r\n"),
        (b"Content-Transfer-Encoding: quoted-printable\r\n\r\nHi=3D=\r\n",
         b"Content-Transfer-Encoding: quoted-printable\r\n\r\nHi=3D\r\n\r\nFoot=\r\n"),
        (b"Content-Type: text/html\r\n\r\n<p>Hi</p></BODY></html>\r\n",
         b"Content-Type: text/html\r\n\r\n<p>Hi</p>\r\n<p>Foot</p>\r\n</BODY></html>\r\n"),
        (b"Content-Type: text/html\r\n\r\nHi", b"Content-Type: text/html\r\n\r\nHi\r\n<p>Foot</p>\r\n"),
    ],
)  # fmt: skip
def test_octet_by_octet(before: bytes, after: bytes) -> None:
    assert add(before) == after


def test_a_text_without_a_head_of_mime_gets_one_when_it_needs_it() -> None:
    changed = add(b"From: a\r\n\r\nHi\r\n", "Köln")

    assert changed == (
        b"From: a\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\nMIME-Version: 1.0\r\n\r\n"
        b"Hi\r\n\r\nK=C3=B6ln\r\n"
    )


def test_only_the_charset_of_a_type_changes() -> None:
    head = b'Content-Type: text/plain; x="charset=a";\r\n Charset="US-ASCII" ; format=flowed; delsp=yes\r\n'
    changed = add(head + b"\r\nHi \r\nyou\r\n", "Köln")

    assert b'; x="charset=a";\r\n charset=utf-8 ; format=flowed; delsp=yes\r\n' in changed
    assert text_of(changed) == "Hi \r\nyou\r\n\r\nKöln\r\n".encode()


@pytest.mark.parametrize(
    ("charset", "footer", "said"),
    [
        ("iso-8859-1", "Köln", "iso-8859-1"),
        ("iso-8859-1", "5 €", "utf-8"),
        ("iso-8859-15", "5 €", "iso-8859-15"),
        ("utf-8", "日本", "utf-8"),
        ("shift_jis", "日本", "shift_jis"),
        ("iso-2022-jp", "日本", "iso-2022-jp"),
        ("iso-2022-jp", "Köln", "utf-8"),
        ("utf-16-le", "日本", "utf-16-le"),
    ],
)
def test_the_charset_stays_where_it_has_the_footer(charset: str, footer: str, said: str) -> None:
    words = (
        "日本語\r\n"
        if charset in ("utf-8", "shift_jis", "iso-2022-jp", "utf-16-le")
        else "Grüße\r\n"
    )
    part = make_part(f"text/plain; charset={charset}", words.encode(charset), "base64")
    changed = add(part, footer)

    parsed = email.message_from_bytes(changed)
    assert parsed.get_content_charset() == said
    assert parsed["Content-Transfer-Encoding"] == "base64"
    payload = parsed.get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert payload.decode(said) == f"{words}\r\n{footer}\r\n"


def test_octets_of_windows_stay_what_readers_show() -> None:
    part = make_part("text/plain; charset=iso-8859-1", b"5 \x80\r\n", "8bit")

    assert text_of(add(part, "日本")) == "5 €\r\n\r\n日本\r\n".encode()


def test_wrong_octets_stay_where_nobody_has_to_understand_them() -> None:
    part = make_part("text/plain; charset=utf-8", b"\xff\xfe\r\n", "8bit")
    assert text_of(add(part)) == b"\xff\xfe\r\n\r\nFoot\r\n"
    ascii_part = make_part("text/plain", b"\xff\r\n", "7bit")
    assert add(ascii_part).endswith(b"7bit\r\n\r\n\xff\r\n\r\nFoot\r\n")
    with pytest.raises(CannotChange, match="charset"):
        add(ascii_part, "Köln")


def test_html_has_all_characters_in_any_charset() -> None:
    part = make_part("text/html", b'<meta charset="us-ascii"><body>Hi</body>', "7bit")

    assert b"<p>K&#246;ln &lt;&amp;</p>" in add(part, "Köln <&")
    assert b"<hr>K&#246;ln\r\n</body>" in add(part, "Foot", "<hr>Köln")
    assert b"7bit" in add(part, "Köln")


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"<body>x</body></html>", 7),
        (b"<body>x</html>", 7),
        (b"<body>x", 7),
        (b"a</body>b</BODY\n>c", 9),
        (b"a</body><!-- </body> -->", 1),
        (b"a</body><!-- </body>", 1),
        (b"</bodyguard>", 12),
    ],
)
def test_the_place_in_a_document(content: bytes, place: int) -> None:
    assert find_place(content) == place


def test_an_end_of_the_body_that_is_none_in_its_charset() -> None:
    words = b"\x1b$B</body>!\x1b(B"  # four characters of Japanese
    part = make_part("text/html; charset=iso-2022-jp", b"<p>" + words + b"</p>\r\n", "7bit")

    assert text_of(add(part)) == b"<p>" + words + b"</p>\r\n\r\n<p>Foot</p>\r\n"


def test_many_comments_take_time_in_proportion() -> None:
    assert find_place(b"<!--" * 1_000_000) == 4_000_000
    assert find_place(b"<!---->" * 500_000) == 3_500_000


def test_a_flowed_text_ends_where_it_ends() -> None:
    part = make_part("text/plain; format=flowed", b"a \r\nb \r\n")

    assert text_of(add(part, "-- \n> q \nFrom x")) == b"a \r\nb \r\n\r\n-- \r\n > q\r\n From x\r\n"


PLAIN = make_part("text/plain", b"Hi\r\n")
PAGE = make_part("text/html", b"<p>Hi</p>")
NOTES = make_part("text/plain", b"notes\r\n", "", "attachment; filename=notes.txt")
INLINE = make_part("text/plain", b"notes\r\n", "", "inline; filename=notes.txt")
ROOT = b"Content-ID: <r>\r\n"


@pytest.mark.parametrize(
    ("part", "footed"),
    [
        (make_multipart("mixed", PLAIN, NOTES), [True, False]),
        (make_multipart("mixed", NOTES, PLAIN, PLAIN), [False, True, False]),
        (make_multipart("alternative", PLAIN, PAGE), [True, True]),
        (make_multipart("mixed", INLINE, PLAIN), [False, True]),
        (make_multipart("unheard-of", PLAIN, PAGE), [True, False]),
        (make_multipart("related", PAGE, PLAIN), [True, False]),
        (make_multipart("related", PLAIN, ROOT + PAGE, more='; start="<r>"'), [False, True]),
        (
            make_multipart(
                "mixed",
                make_multipart("alternative", PLAIN, make_multipart("related", PAGE, boundary="c"), boundary="d"),
                PLAIN,
            ),
            [True, True, False],
        ),
        (make_multipart("mixed", PLAIN, make_part("message/rfc822", PLAIN)), [True, False]),
        (make_multipart("mixed", PLAIN, make_part("application/pgp-keys", b"-----BEGIN PGP")), [True, False]),
    ],
)  # fmt: skip
def test_what_is_the_text(part: bytes, footed: list[bool]) -> None:
    changed = add(part)

    found = [
        b"Foot" in changed[one.body : one.end]
        for one in walk(read_message(changed))
        if not one.parts
    ]
    assert found == footed


SIGNATURE = make_part("application/pgp-signature", b"-----BEGIN PGP SIGNATURE-----\r\n")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (make_multipart("signed", PLAIN, SIGNATURE), "signed"),
        (make_multipart("mixed", make_multipart("signed", PLAIN, boundary="c")), "signed"),
        (make_multipart("mixed", PLAIN, SIGNATURE), "signed"),
        (make_multipart("encrypted", PLAIN), "encrypted"),
        (make_part("application/pkcs7-mime; smime-type=signed-data", b"x"), "signed or encrypted"),
        (make_part("application/x-pkcs7-mime", b"x"), "signed or encrypted"),
        (make_multipart("mixed", PLAIN, make_part("application/pgp-encrypted", b"x")), "encrypted"),
        (make_part("text/plain", b"Hi\r\n-----BEGIN PGP SIGNED MESSAGE-----\r\n"), "PGP"),
        (make_part("text/plain", b"-----BEGIN PGP MESSAGE-----\r\n", "base64"), "PGP"),
        (make_multipart("report", PLAIN, make_part("message/delivery-status", b"A: b\r\n")), "report"),
        (make_part("text/calendar", b"BEGIN:VCALENDAR\r\n"), "no text"),
        (make_multipart("mixed", NOTES), "no text"),
        (make_part("image/png", b"x"), "no text"),
        (make_part("message/rfc822", PLAIN), "no text"),
        (make_part("text/plain; charset=unheard-of", b"x"), "charset"),
        (make_part("text/plain; charset=zip", b"x"), "charset"),
        (b"Content-Transfer-Encoding: x-y\r\n\r\n", "encoding"),
        (b"Content-Transfer-Encoding: base64\r\n\r\nQUI=QUI=\r\n", "broken"),
        (b"Content-Transfer-Encoding: base64\r\n\r\nQUI\r\n", "broken"),
        (b"Content-Type: multipart/mixed\r\n\r\nx", "taken apart"),
        (b"A: b\n\nx", "taken apart"),
        (b"Content-Type: multipart/x; boundary=b\r\n\r\n--b\r\n--b--", "with a footer"),
    ],
)  # fmt: skip
def test_what_stays_as_it_is(message: bytes, reason: str) -> None:
    with pytest.raises(CannotChange, match=reason):
        add(message)


def test_a_footer_cannot_end_its_part() -> None:
    message = make_multipart("mixed", PLAIN, NOTES)
    for footer in ("--b", "--b--", "x\n--b\n\nContent-Type: text/html"):
        with pytest.raises(CannotChange):
            add(message, footer)
    # Encoded it is none.
    quoted = make_multipart("mixed", make_part("text/plain", b"Hi\r\n", "quoted-printable"), NOTES)
    assert len(read_message(add(quoted, "--b--")).parts) == 2


def test_long_lines_do_not_stay_long() -> None:
    changed = add(PLAIN, "x" * 2000)

    assert b"quoted-printable" in changed
    assert max(map(len, changed.split(b"\r\n"))) <= 76
    assert text_of(changed) == b"Hi\r\n\r\n" + b"x" * 2000 + b"\r\n"


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=300), st.lists(st.sampled_from(
    [b"\r\n", b"=", b" ", b"--", b"x" * 70, b"\xe4" * 30, b"\r", b"\n", b"."])).map(b"".join)))  # fmt: skip
def test_quoted_printable_is_undone(content: bytes) -> None:
    encoded = encode_quoted(content)

    assert decode_quoted(encoded) == content
    lines = encoded.split(b"\r\n")
    assert all(len(line) <= 76 for line in lines)
    assert not any(line.startswith(b"--") for line in lines)
    assert re.fullmatch(rb"[\t\r\n -~]*", encoded)


def read_text(part: Message) -> str:
    """Return what a text says, as the library reads it."""
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode(part.get_content_charset() or "ascii", "replace")


def count(part: Message, mark: str) -> int:
    if part.get_content_maintype() != "text" or part.get_filename():
        return 0
    return html.unescape(read_text(part)).count(mark)


@settings(deadline=None)
@given(
    messages(),
    st.sampled_from([FOOTER, "Registered in ASCII", "--b\nRegistered in", "Registered in 日本 €"]),
)
def test_any_message_keeps_all_else(message: bytes, footer: str) -> None:
    try:
        changed = add_footer(message, footer, "")
    except CannotChange as reason:
        assert "with a footer" in str(reason)  # noqa: PT017
        assert footer.startswith("--b")
        return
    before, after = read_email(message), read_email(changed)
    assert [one.get_content_type() for one in before] == [one.get_content_type() for one in after]
    footed = 0
    for old, new in zip(before, after, strict=True):
        if not count(new, MARK):
            assert old.as_bytes() == new.as_bytes() or old.is_multipart()
            continue
        footed += 1
        assert count(new, MARK) == 1
        text, said = read_text(old), read_text(new)
        if old.get_content_type() == "text/plain":
            assert said.startswith(text.rstrip("\r\n"))
            assert said.rstrip().endswith(footer.splitlines()[-1])
        else:
            # Nothing was taken out.
            at = find_place(text.encode())
            kept = text.encode()[:at].decode(), text.encode()[at:].decode()
            assert said.startswith(kept[0])
            assert said.endswith(kept[1])
    assert footed == (2 if b"multipart/alternative" in message else 1)
    assert all(len(line) <= 998 for line in changed.split(b"\r\n"))
    assert changed.count(b"\r\n") == changed.count(b"\r") == changed.count(b"\n")


@settings(deadline=None)
@given(messages(), st.data())
def test_damaged_messages_are_changed_or_not(message: bytes, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(message)))
        new = data.draw(st.sampled_from([b"", b"\r\n", b"--b", b"=", b'"', b"\xff", b"\r\n\r\n"]))
        message = message[:at] + new + message[at + data.draw(st.integers(0, 30)) :]
    try:
        changed = add_footer(message, FOOTER, "")
    except CannotChange:
        return
    old, new_parts = list(walk(read_message(message))), list(walk(read_message(changed)))
    same = [
        message[one.start : one.end] == changed[two.start : two.end]
        for one, two in zip(old, new_parts, strict=True)
        if not one.parts
    ]
    assert 1 <= same.count(False) <= 3


@needs_corpus
@pytest.mark.parametrize("footer", ["Registered in ASCII", FOOTER])
def test_the_corpus_keeps_all_else(footer: str) -> None:
    changes = total = 0
    for sample in read_corpus():
        total += 1
        try:
            changed = add_footer(sample.content, footer, "")
        except CannotChange:
            continue
        changes += 1
        old = list(walk(read_message(sample.content)))
        new = list(walk(read_message(changed)))
        assert [one.content_type for one in old] == [one.content_type for one in new]
        differ = [
            two
            for one, two in zip(old, new, strict=True)
            if not one.parts and sample.content[one.start : one.end] != changed[two.start : two.end]
        ]
        assert 1 <= len(differ) <= 3, sample.name
        assert all(one.content_type in ("text/plain", "text/html") for one in differ)
        theirs = read_email(changed)
        assert [one.get_content_type() for one in read_email(sample.content)] == [
            one.get_content_type() for one in theirs
        ], sample.name
    assert changes > 0.4 * total


def test_a_message_that_cannot_be_read_says_why() -> None:
    with pytest.raises(CannotChange) as caught:
        add(b"A: b\r\n\r\n\0")
    assert isinstance(caught.value.__cause__, Unreadable)


def test_a_whole_message() -> None:
    octets = make_message(make_multipart("mixed", PLAIN, NOTES))
    changed = add(octets)

    at = octets.index(b"Hi\r\n") + 4
    assert changed == octets[:at] + b"\r\nFoot\r\n" + octets[at:]
