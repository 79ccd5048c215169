"""Messages of many shapes: the same ones for the same seed, on every machine.

The shapes are those that relays get wrong: dots at line starts, lines as long as allowed, bytes
above 127, headers whose folding a signature covers, no body at all. The bytes are put together by
hand; a library would tidy up exactly what has to arrive untidied.
"""

import base64
import random
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from relay.model import Envelope
from workers.emulation.envelopes import make_envelope, make_random

_MINUTES = (
    "Good morning, here are the minutes of yesterday's meeting. Please send corrections by "
    "Friday; after that they count as agreed."
)
_ORDER = (
    "Your order has left our warehouse. It travels by rail and should reach you on Tuesday. If "
    "nobody is at home it waits for you at the station."
)
_HARBOUR = (
    "The harbour will be closed between six and nine. Ships that are expected in these hours are "
    "asked to wait outside and to keep their radio on."
)
_TALK = (
    "We have looked at your application and like it. Could you come by for a talk next week? "
    "Coffee is good, the lift is not; we are on the fourth floor."
)
_PARAGRAPHS = (_MINUTES, _ORDER, _HARBOUR, _TALK)
_UMLAUTS = (
    "Grüße aus Köln! Die Straße ist gesperrt, der Bäcker hat geöffnet, und die Füße "
    "sind müde. Übermorgen fährt wieder ein Zug."
)
_JAPANESE = (
    "お世話になっております。明日の会議は午後三時からです。資料を添付しました。"
    "よろしくお願いいたします。"
)
_LOG_SMALLEST, _LOG_LARGEST = 13.3, 20  # attachments: 10 KiB to 1 MiB, as powers of two


@dataclass(frozen=True, slots=True)
class Sample:
    """One message of a corpus, ready to be sent."""

    number: int
    kind: str
    envelope: Envelope
    content: bytes


class Corpus(Protocol):
    """Messages that are made, or read, when they are needed: a corpus may be larger than memory."""

    def __len__(self) -> int: ...

    def envelope(self, number: int) -> Envelope:
        """Return the envelope of a message, without making the rest of it."""

    def make(self, number: int) -> Sample:
        """Return the message of a number from 0 on."""


@dataclass(frozen=True, slots=True)
class GeneratedCorpus:
    """``count`` messages of our own."""

    seed: int
    count: int

    def __len__(self) -> int:
        return self.count

    def envelope(self, number: int) -> Envelope:
        """Return the envelope of a message."""
        return make_envelope(self.seed, number, eight_bit=self._choose(number)[2])

    def make(self, number: int) -> Sample:
        """Return the message of a number."""
        kind, make, _ = self._choose(number)
        envelope = self.envelope(number)
        chance = make_random(self.seed, number, "content")
        content = _make_header(chance, number, envelope, kind) + make(chance)
        return Sample(number, kind, envelope, content)

    def _choose(self, number: int) -> tuple[str, Callable[[random.Random], bytes], bool]:
        chance = make_random(self.seed, number, "kind")
        weights = [weight for weight, *_ in _KINDS]
        return chance.choices([kind for _, *kind in _KINDS], weights)[0]  # type: ignore[return-value]


def _make_header(chance: random.Random, number: int, envelope: Envelope, kind: str) -> bytes:
    """Make what all have in common. The date is the seed's too: nothing may depend on today."""
    sender = envelope.sender.decode()
    to = ",\r\n\t".join(r.address.decode() for r in envelope.recipients[:20])
    clock = f"{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}"
    return (
        f"From: Acme <{sender}>\r\n"
        f"To: {to}\r\n"
        f"Subject: {kind.capitalize()}, number {number}\r\n"
        f"Date: Mon, 5 Jan 2026 {clock} +0000\r\n"
        f"Message-ID: <{number}.{chance.getrandbits(64):016x}@acme.test>\r\n"
        "MIME-Version: 1.0\r\n"
    ).encode()


def _make_text(chance: random.Random) -> bytes:
    return b"\r\n" + _wrap(chance.choice(_PARAGRAPHS))


def _make_letter(chance: random.Random) -> bytes:
    """Some paragraphs; an ordinary mail of a few kilobytes."""
    body = b"\r\n".join(_wrap(chance.choice(_PARAGRAPHS)) for _ in range(chance.randint(5, 40)))
    return b"Content-Type: text/plain; charset=us-ascii\r\n\r\n" + body


def _make_alternative(chance: random.Random) -> bytes:
    text = chance.choice(_PARAGRAPHS)
    html = f'<html><body><p style="color: #333">{text}</p></body></html>\r\n'.encode()
    return _make_multipart(
        chance,
        "alternative",
        b"Content-Type: text/plain; charset=us-ascii\r\n\r\n" + _wrap(text),
        b"Content-Type: text/html; charset=us-ascii\r\n\r\n" + html,
    )


def _make_attachment(chance: random.Random) -> bytes:
    octets = chance.randbytes(int(2 ** chance.uniform(_LOG_SMALLEST, _LOG_LARGEST)))
    return _make_multipart(
        chance,
        "mixed",
        b"\r\n" + _wrap(chance.choice(_PARAGRAPHS)),
        b'Content-Type: application/octet-stream; name="chart.bin"\r\n'
        b"Content-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(octets).replace(b"\n", b"\r\n"),
    )


def _make_eight_bit(chance: random.Random) -> bytes:
    text = chance.choice((_UMLAUTS, _JAPANESE, _UMLAUTS + "\r\n" + _JAPANESE))
    return (
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        + f"{text}\r\n".encode()
        + b"-- \r\nAcme\r\n"
    )


def _make_long_lines(chance: random.Random) -> bytes:
    """RFC 5321 §4.5.3.1.6: 1000 octets with CRLF, not counting a dot that stuffing adds."""
    lengths = (998, 997, chance.randint(500, 990), 998)
    lines = [b"." * (number == 3) + b"x" * (n - (number == 3)) for number, n in enumerate(lengths)]
    return b"\r\n" + b"\r\n".join(lines) + b"\r\n"


def _make_dots(chance: random.Random) -> bytes:
    """Everything that dot-stuffing (RFC 5321 §4.5.2) can stumble over."""
    lines = [b".", b"..", b"...", b". ", b".\t.", b".QUIT", b"", b"text.", b"."]
    chance.shuffle(lines)
    return b"\r\n.\r\n" + b"\r\n".join(lines) + b"\r\n"


def _make_no_body(chance: random.Random) -> bytes:
    """Header only; half of them without even the empty line behind it (RFC 5322 §3.5)."""
    return chance.choice((b"", b"\r\n"))


def _make_signed(chance: random.Random) -> bytes:
    """A header that is folded and spaced its own way: re-folding it would break a signature."""
    signature = base64.b64encode(chance.randbytes(256)).decode()
    folded = "\r\n\t ".join(textwrap.wrap(signature, 61))
    return (
        "X-Signature: v=1;  a=rsa-sha256; c=simple/simple; d=acme.test;\r\n"
        "  s=2026;\th=From : To:Subject ;   \r\n"
        f"\t b={folded}\r\n"
        f"X-Long: {'word ' * 190}\r\n\r\n"
    ).encode() + _wrap(chance.choice(_PARAGRAPHS))


def _make_invitation(chance: random.Random) -> bytes:
    hour = chance.randint(8, 17)
    calendar = (
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//Acme//Demo//EN\r\nMETHOD:REQUEST\r\n"
        f"BEGIN:VEVENT\r\nUID:{chance.getrandbits(64):016x}@acme.test\r\n"
        f"DTSTAMP:20260105T080000Z\r\nDTSTART:20260112T{hour:02}0000Z\r\n"
        f"DTEND:20260112T{hour + 1:02}0000Z\r\nSUMMARY:Besprechung über Größe\r\n"
        "END:VEVENT\r\nEND:VCALENDAR\r\n"
    )
    return _make_multipart(
        chance,
        "alternative",
        b"\r\n" + _wrap("You are invited to a meeting on Monday."),
        b"Content-Type: text/calendar; charset=utf-8; method=REQUEST\r\n"
        b"Content-Transfer-Encoding: 8bit\r\n\r\n" + calendar.encode(),
    )


def _make_multipart(chance: random.Random, subtype: str, *parts: bytes) -> bytes:
    boundary = f"=_{chance.getrandbits(96):024x}".encode()
    body = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts)
    return (
        f'Content-Type: multipart/{subtype};\r\n boundary="{boundary.decode()}"\r\n\r\n'.encode()
        + b"Not for old readers.\r\n"
        + body
        + b"--"
        + boundary
        + b"--\r\n"
    )


def _wrap(text: str) -> bytes:
    return "".join(f"{line}\r\n" for line in textwrap.wrap(text, 72)).encode()


# Of 100 messages, so many are of the kind; the last column says whether it has octets above 127.
_KINDS: tuple[tuple[int, str, Callable[[random.Random], bytes], bool], ...] = (
    (24, "short text", _make_text, False),
    (22, "letter", _make_letter, False),
    (14, "text and HTML", _make_alternative, False),
    (6, "attachment", _make_attachment, False),
    (10, "umlauts or Japanese", _make_eight_bit, True),
    (5, "long lines", _make_long_lines, False),
    (5, "dots", _make_dots, False),
    (3, "no body", _make_no_body, False),
    (7, "signed header", _make_signed, False),
    (4, "invitation", _make_invitation, True),
)
