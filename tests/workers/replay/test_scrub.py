"""Scrubbing: the same size and structure, and none of the words that were in it."""

import email
import re
import time
from email.message import Message
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.mime import CORPUS
from workers.replay.files import Reading
from workers.replay.scrub import vocabulary
from workers.replay.scrub.corpus import scrub_corpus
from workers.replay.scrub.message import scrub, scrub_markup
from workers.replay.scrub.words import Words

KNOWN = (
    vocabulary.HEADS
    | vocabulary.ENDINGS
    | vocabulary.CARDS
    | vocabulary.MARKUP
    | vocabulary.ENTITIES
)
# Schemes of URLs, and the domains that stand in for others.
KNOWN |= {b"http", b"https", b"mailto", b"test"}
WORDS = Words(b"a key of some length")

LETTER = (
    b"Received: from mail.secretcorp.com (mail.secretcorp.com [203.0.113.77])\r\n"
    b"\tby mx.example.org with ESMTPS id 4711abcd\r\n"
    b"\tfor <bobby@example.org>; Mon, 5 Jan 2026 08:00:00 +0100 (CET)\r\n"
    b"X-Secretcorp-Ticket: Hannover\r\n"
    b"From: =?utf-8?q?Hannel=C3=B6re?= Secretary <hannelore@secretcorp.com>\r\n"
    b"To: bobby@example.org\r\n"
    b"Subject: =?utf-8?B?R2VoZWltZXMgdm9tIFZvcnN0YW5k?= and  \r\n\t more\r\n"
    b"Message-ID: <4711abcd@mail.secretcorp.com>\r\n"
    b"Date: Mon, 5 Jan 2026 08:00:00 +0100\r\n"
    b"MIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; charset=utf-8;\r\n boundary=\"4711/mail.secretcorp.com\"\r\n\r\n"
    b"Preamble\r\n"
    b"--4711/mail.secretcorp.com\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    b"Liebe Hannel=C3=B6re, das ist ge=\r\nheim: https://secretcorp.com/%48annover?q=3Dx\r\n"
    b"--4711/mail.secretcorp.com\r\n"
    b"Content-Type: text/html\r\n\r\n"
    b"<table width=\"600\"><tr><td style=\"color: red\">Geheim&nbsp;ist &#71;eheim</td></tr></table>\r\n"
    b"--4711/mail.secretcorp.com\r\n"
    b"Content-Type: image/png; name=\"hannelore.png\"\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    b"iVBORw0KGgoAAAANSUhEUgAAAAYAAAALCAIAAADTMGvBAAAAEUlEQVQImWPgsi5DQwxDWggA\r\n"
    b"lCEwN+YGfiYAAAAASUVORK5CYII=\r\n"
    b"--4711/mail.secretcorp.com--\r\n"
    b"a bare \r, a NUL \0, 8-bit \xe9\xe8 and " + b"long" * 300 + b"\r\n"
)  # fmt: skip


def find_words(octets: bytes) -> set[bytes]:
    return {word.lower() for word in re.findall(rb"[A-Za-z]{4,}", octets)}


def describe(message: Message) -> list[tuple[object, ...]]:
    return [
        (part.get_content_type(), str(part.get("content-transfer-encoding")), len(part.keys()))
        for part in message.walk()
    ]


def decode(message: Message) -> bytes:
    return b"\n".join(part.get_payload(decode=True) or b"" for part in message.walk())  # type: ignore[misc]


def test_a_letter_keeps_its_form_and_none_of_its_words() -> None:
    clean = scrub(LETTER, WORDS)

    assert len(clean) == len(LETTER)
    assert describe(email.message_from_bytes(clean)) == describe(email.message_from_bytes(LETTER))
    shape = re.compile(rb"[^A-Za-z0-9\x80-\xff+/]")
    assert [m.span() for m in shape.finditer(clean)] == [m.span() for m in shape.finditer(LETTER)]
    kept = find_words(LETTER) & find_words(clean)
    # What says how parts are written.
    assert kept - KNOWN <= {
        b"multipart",
        b"mixed",
        b"charset",
        b"boundary",
        b"plain",
        b"image",
        b"ivborw",  # what a PNG begins with
    }
    plain = decode(email.message_from_bytes(clean))
    assert not find_words(plain) & find_words(decode(email.message_from_bytes(LETTER))) - KNOWN
    for word in (b"203.0.113.77", b"4711abcd", b"Hannel", "ö".encode(), b"R2VoZWlt", b"secretcorp"):
        assert word not in clean, word
    assert b"Mon, 5 Jan 2026 08:00:00 +0100 (CET)" in clean
    assert b"\x89PNG\r\n\x1a\n" in plain


def test_the_same_word_becomes_the_same_and_another_key_another() -> None:
    clean = scrub(LETTER, WORDS)
    host = re.search(rb"from (\S+) \((\S+) ", clean)

    assert host is not None
    assert host[1] == host[2]
    assert clean.count(host[1]) == LETTER.count(b"mail.secretcorp.com")
    assert scrub(LETTER, Words(b"another key, as long")) != clean
    assert scrub(LETTER, Words(b"a key of some length")) == clean


def test_domains_end_in_what_does_not_exist() -> None:
    for name, top in ((b"a.com", 3), (b"b.de", 2), (b"c.info", 4), (b"d.museum", 6)):
        last = WORDS.replace_all(name).rpartition(b".")[2].lower()
        assert len(last) == top
        assert last.startswith((b"q", b"zq", b"zz")) or last == b"test"


def test_markup_stays_markup() -> None:
    clean = scrub_markup(b'<p class="x"><a href="http://a.com/">Geheim &amp; &#x47;</a><br>', WORDS)

    assert re.sub(rb"[a-z0-9]", b"", clean.lower()) == b'< ="">< ="://./"> &; &#;</><>'
    assert clean.startswith(b"<p class=")
    assert b"&amp;" in clean
    assert clean.endswith(b"</a><br>")


_WORD = st.sampled_from(
    [b"geheimnis", b"Hannover", b"SECRET", "größe".encode(), "привет".encode(), b"b\xe9te"]
)
_NOISE = st.sampled_from(
    [b" ", b"\r\n", b"\n", b"\r", b"\0", b"--b\r\n", b"--b--\r\n", b"--inner\n", b"=", b"=3D", b"=\r\n",
     b"%41", b"<", b">", b"&amp;", b"&#65;", b"@", b".", b":", b"\r\n\r\n", b";", b'"', b"\\", b"\xff",
     b"=?utf-8?q?", b"=?utf-8?b?", b"?=", b"Content-Type: multipart/mixed; boundary=b\r\n",
     b"Content-Transfer-Encoding: base64\r\n", b"Content-Type: text/html\r\n", b"R2VoZWltbmlz\r\n",
     b"Content-Type: message/rfc822\n", b"Content-Transfer-Encoding: quoted-printable\n"]
)  # fmt: skip


@pytest.mark.parametrize(
    "octets",
    [
        b"a." * 300_000,
        b"Content-Type: text/html\n\n" + b"<style>" * 100_000,
        b"Content-Type: text/html\n\n" + b"<a " * 200_000,
        b"Subject: " + b"=?a?q?" * 100_000,
        b"Content-Type: " + b"a=b;" * 100_000,
    ],
    ids=lambda octets: octets[-8:].decode(),
)
def test_no_shape_takes_time_that_grows_with_its_square(octets: bytes) -> None:
    started = time.process_time()
    scrub(octets, WORDS)

    # Seconds; it takes less than one, and a square would take minutes.
    assert time.process_time() - started < 15


@settings(deadline=None)
@given(st.lists(st.one_of(_WORD, _NOISE, st.binary(max_size=8)), max_size=60))
def test_whatever_it_is_its_size_stays_and_so_does_all_that_is_no_word(pieces: list[bytes]) -> None:
    octets = b"".join(pieces)
    clean = scrub(octets, WORDS)

    assert len(clean) == len(octets)
    assert [at for at, octet in enumerate(clean) if octet in b"\r\n\0 <>@"] == [
        at for at, octet in enumerate(octets) if octet in b"\r\n\0 <>@"
    ]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(_WORD, st.sampled_from([b" ", b", ", b"\r\n", b"@", b"/", b"-"])), max_size=30
    )
)
def test_no_word_survives_in_subject_addresses_and_text(pieces: list[tuple[bytes, bytes]]) -> None:
    text = b"".join(word + between for word, between in pieces)
    subject = text.replace(b"\r\n", b" ")
    octets = b"Subject: " + subject + b"\r\nFrom: " + subject + b"\r\n\r\n" + text

    clean = scrub(octets, WORDS)

    for word in (b"geheimnis", b"hannover", b"secret", "größe".encode(), "привет".encode()):
        assert word not in clean.lower()


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of messages is not here")
def test_a_corpus_keeps_its_sizes_and_loses_its_words() -> None:
    """What replaces words has no vowels: a word with one, in a text, was there before."""
    armour = {b"public", b"private", b"block", b"certificate", b"signed"}
    for path in sorted(CORPUS.glob("*.eml")):
        octets = path.read_bytes()
        clean = scrub(octets, WORDS)
        assert len(clean) == len(octets), path.name
        for part in email.message_from_bytes(clean).walk():
            if part.get_content_type() == "text/plain" and "content-type" in part:
                text = part.get_payload(decode=True) or b""
                left = {word for word in find_words(text) if set(word) & set(b"aeiou")}  # type: ignore[arg-type]
                # Broken base64 is a text to us; what it could be decoded to is chance.
                before = find_words(decode(email.message_from_bytes(octets)))
                assert not left & before - KNOWN - armour, path.name


@pytest.mark.parametrize("name", ["out", "out.tar", "out.tar.gz", "out.tar.zst"])
def test_a_scrubbed_corpus_can_be_read_again(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    (tmp_path / "in").mkdir()
    for number in range(3):
        (tmp_path / f"in/{number}.eml").write_bytes(b"Subject: Geheim %d\r\n\r\n" % number + LETTER)
    (tmp_path / "key").write_bytes(b"sixteen octets or more")

    status = scrub_corpus(
        Reading([tmp_path / "in"]), tmp_path / name, tmp_path / "key", Console(stderr=True)
    )

    letters = list(Reading([tmp_path / name]).read())
    assert status == 0
    assert [len(letter.content) for letter in letters] == [len(LETTER) + 21] * 3
    assert not any(b"secretcorp" in letter.content for letter in letters)
    assert "do not hold" in capsys.readouterr().err
