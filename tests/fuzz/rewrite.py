"""Footers: CannotChange, or a message with the same parts, and a footer, and nothing else.

The first octet chooses the footer. The rest is the message.
"""

from relay.mime import Part, read_message, walk
from relay.rewrite import CannotChange, add_footer
from tests.fuzz.target import take_octet
from tests.kit.mime import make_message, make_multipart, make_part

_FOOTERS = (
    ("Confidential.", ""),
    ("Vertraulich: \u20ac\n-- \n two\n", "<p>x &amp; y</p>"),
    ("\u65e5\u672c\u8a9e --b\r\nFrom me", ""),
    ("x" * 1200, "<hr>" + "y" * 1200),
)
_HTML = make_part("text/html", b"<html><body>x<!-- </body> -->\r\n</body></html>\r\n")
_TEXT = make_part("text/plain; charset=iso-8859-1; format=flowed", b"\xe4 \r\nb\r\n", "8bit")
SEEDS = [
    bytes([number]) + make_message(part)
    for number in range(len(_FOOTERS))
    for part in (
        b"\r\ntext\r\n",
        _TEXT,
        make_part("text/plain; charset=utf-8", b"a \xc3\xa4\r\n", "quoted-printable"),
        make_part("text/plain; charset=utf-16", "a\r\n".encode("utf-16"), "base64"),
        make_part("text/plain; charset=iso-2022-jp", b"\x1b$BF|K\\8l\x1b(B\r\n", "7bit"),
        make_multipart("alternative", _TEXT, _HTML),
        make_multipart("mixed", make_multipart("related", _HTML, boundary="bb"), _TEXT),
        make_multipart("signed", _TEXT, _TEXT),
    )
]


def _describe(root: Part) -> list[tuple[str, int, tuple[str, ...]]]:
    return [(part.content_type, len(part.parts), part.names) for part in walk(root)]


def check(octets: bytes) -> None:
    """All parts are there; heads of other parts and line ends are as they were."""
    which, message = take_octet(octets)
    text, html = _FOOTERS[which % len(_FOOTERS)]
    try:
        changed = add_footer(message, text, html)
    except CannotChange:
        return
    before, after = read_message(message), read_message(changed)
    assert _describe(before) == _describe(after)
    assert changed != message
    assert changed.count(b"\r") == changed.count(b"\n") == changed.count(b"\r\n")
    assert b"\0" not in changed
