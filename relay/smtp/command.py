"""MAIL and RCPT as the receiving role hands them on, and the reading of their parameters.

A parameter that we did not offer, or cannot read, is an error (RFC 5321 §4.1.1.11): guessing at
it would promise something to the sender that nobody keeps.
"""

import re
from dataclasses import dataclass

from relay.smtp import grammar

# C1 controls, separators of lines and paragraphs, marks and overrides of direction.
_UNSEEN = re.compile("[\x80-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
# RFC 5321 §4.2: the text of a reply is printable ASCII.
_PRINTABLE = bytes(octet if 32 <= octet < 127 else ord("?") for octet in range(256))


class BadCommand(Exception):
    """A command that cannot be accepted. ``code``, ``status`` and ``text`` are the reply."""

    def __init__(self, code: int, status: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.status = status
        self.text = text


@dataclass(frozen=True, slots=True)
class Mail:
    """MAIL: a transaction may begin. To be answered with ``accept`` or ``refuse``."""

    sender: bytes  # b"" is the null sender
    size: int = 0  # as declared with SIZE=, 0 when it was not
    body: bytes = b""
    smtputf8: bool = False
    ret: bytes = b""
    envid: bytes = b""
    requiretls: bool = False


@dataclass(frozen=True, slots=True)
class Rcpt:
    """RCPT: one more recipient. To be answered with ``accept`` or ``refuse``."""

    address: bytes
    notify: bytes = b""
    orcpt: bytes = b""


def read_mail(argument: bytes, *, max_size: int, requiretls: bool = False) -> Mail:
    """Read what follows ``MAIL``. ``requiretls``: it was offered. Raises BadCommand."""
    found = grammar.REVERSE_PATH.fullmatch(argument)
    if found is None:
        raise BadCommand(501, "5.1.7", "Syntax: MAIL FROM:<address> [parameters]")
    sender, rest = found[1], found[2]
    if not rest:
        _check_path(sender, utf8=False)
        return Mail(sender)
    size, body, utf8, ret, envid, tls = 0, b"", False, b"", b"", False
    for name, value in _split(rest):
        if name == b"SIZE" and grammar.SIZE.fullmatch(value):
            size = int(value)
        elif name == b"BODY" and value.upper() in (b"7BIT", b"8BITMIME"):
            body = value.upper()
        elif name == b"SMTPUTF8" and not value:
            utf8 = True
        elif name == b"RET" and value.upper() in (b"FULL", b"HDRS"):
            ret = value.upper()
        elif name == b"ENVID" and len(value) <= 100 and grammar.XTEXT.fullmatch(value):
            envid = value
        elif name == b"REQUIRETLS" and not value and requiretls:
            tls = True
        else:
            raise BadCommand(555, "5.5.4", f"MAIL parameter {_show(name)} not recognised or bad")
    _check_path(sender, utf8=utf8)
    if size > max_size:
        # RFC 1870 §6.1: refuse before the octets travel.
        raise BadCommand(552, "5.3.4", f"Message too big: at most {max_size} octets")
    return Mail(sender, size, body, utf8, ret, envid, tls)


def read_rcpt(argument: bytes, *, utf8: bool) -> Rcpt:
    """Read what follows ``RCPT``. Raises BadCommand."""
    found = grammar.FORWARD_PATH.fullmatch(argument)
    if found is None:
        raise BadCommand(501, "5.1.3", "Syntax: RCPT TO:<address> [parameters]")
    address, rest = found[1], found[2]
    _check_path(address, utf8=utf8)
    if not rest:
        return Rcpt(address)
    notify, orcpt = b"", b""
    for name, value in _split(rest):
        if name == b"NOTIFY" and grammar.NOTIFY.fullmatch(value.upper()):
            notify = value.upper()
        elif name == b"ORCPT" and grammar.ORCPT.fullmatch(value) and _is_text(value, utf8=utf8):
            orcpt = value
        else:
            raise BadCommand(555, "5.5.4", f"RCPT parameter {_show(name)} not recognised or bad")
    return Rcpt(address, notify, orcpt)


def _split(parameters: bytes) -> list[tuple[bytes, bytes]]:
    pairs = []
    seen: set[bytes] = set()
    for parameter in parameters.split():
        name, _, value = parameter.partition(b"=")
        name = name.upper()
        if name in seen:
            raise BadCommand(501, "5.5.4", f"Parameter {_show(name)} given twice")
        seen.add(name)
        pairs.append((name, value))
    return pairs


def _check_path(address: bytes, *, utf8: bool) -> None:
    if len(address) > grammar.MAX_PATH:
        raise BadCommand(501, "5.1.7", f"Address too long: at most {grammar.MAX_PATH} octets")
    if address.isascii():
        return
    if not utf8:
        # RFC 6531 §3.5: without SMTPUTF8 such an address is not one.
        raise BadCommand(553, "5.6.7", "Address has octets above 127: SMTPUTF8 is needed")
    try:
        text = address.decode()
    except UnicodeDecodeError:
        raise BadCommand(553, "5.6.7", "Address is not UTF-8") from None
    if _UNSEEN.search(text):
        # RFC 6531 §3.3 lets them in: whoever reads the address in a list, or on a terminal, reads
        # another one.
        raise BadCommand(553, "5.6.7", "Address has control characters")


def _is_text(value: bytes, *, utf8: bool) -> bool:
    if value.isascii():
        return True
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return utf8


def _show(name: bytes) -> str:
    return name[:40].translate(_PRINTABLE).decode("ascii")
