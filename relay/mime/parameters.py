"""Content-Type and Content-Disposition: a value, and parameters (RFC 2045 §5.1, 2183, 2231).

Read as most readers do: what is not quoted goes up to the next semicolon, so that names with blanks
and brackets, which should be quoted and often are not, are whole. Whether anything was written in a
way that others read otherwise is told (``clean``).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from relay.mime.charset import read_text
from relay.mime.limits import Unreadable

# Possessive: none of them ever goes back, so each takes time in proportion to what it matches.
_SKIP = re.compile(rb"[;\s]*+")
_VALUE = re.compile(rb"[^;]*+")
_NAME = re.compile(rb'[^=;"]*+')
_QUOTED = re.compile(rb'"((?:[^"\\]++|\\.)*+)("?)', re.DOTALL)
_PAIR = re.compile(rb"\\(.)", re.DOTALL)
# A token may have no "=" (RFC 2045 §5.1); boundaries often do, and everybody reads them.
_PLAIN = re.compile(rb"[!#-'*+\-./0-9:=?@A-Z^_`a-z{|}~]++")
_PARAMETER_NAME = re.compile(rb"[!#-&+\-.0-9A-Z^_`a-z{|}~*]++")
_PIECE = re.compile(rb"(.+?)(?:\*(0|[1-9][0-9]{0,3}))?(\*?)", re.DOTALL)
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One ``name=value`` as it stands."""

    name: bytes  # in lower case
    value: bytes  # without quotes, backslashes taken out
    written: bytes  # the same with what was taken out
    start: int  # in the field's value; behind the semicolon
    end: int
    clean: bool


@dataclass(frozen=True, slots=True)
class Value:
    """A field's value, taken apart."""

    main: bytes  # what stands in front: "text/plain", "attachment"; in lower case
    parameters: tuple[Parameter, ...]
    clean: bool  # every reader sees the same in it


def read_value(raw: bytes) -> Value:
    """Take the value of a field apart. Folds may still be in it; positions count them."""
    first = _VALUE.match(raw)
    main, at = (first[0], first.end()) if first else (b"", 0)
    if b"=" in main or b'"' in main:
        main, at = b"", 0  # parameters only
    parameters = []
    clean = bool(main.strip()) and b"(" not in main
    while (at := _skip(raw, at)) < len(raw):
        parameter, at = _read_parameter(raw, at)
        clean = clean and parameter.clean
        parameters.append(parameter)
    return Value(main.strip().lower(), tuple(parameters), clean)


def _skip(raw: bytes, at: int) -> int:
    match = _SKIP.match(raw, at)
    return match.end() if match else at


def _read_parameter(raw: bytes, start: int) -> tuple[Parameter, int]:
    match = _NAME.match(raw, start)
    at = match.end() if match else start
    name = raw[start:at].strip()
    clean = bool(_PARAMETER_NAME.fullmatch(name))
    if raw[at : at + 1] != b"=":
        # Something else: a quoted string by itself hides the semicolons in it.
        _, _, at = _read_quoted(raw, at)
        return Parameter(b"", b"", b"", start, at, clean=False), at
    at += 1
    while at < len(raw) and raw[at] in b" \t\r\n":
        at += 1
    value, good, at = _read_quoted(raw, at)
    written = value
    if good is None:
        rest = _VALUE.match(raw, at)
        end = rest.end() if rest else at
        value = written = raw[at:end].replace(b"\r\n", b"").strip()
        good = bool(_PLAIN.fullmatch(value))
        at = end
    elif b"\\" in value:
        value = _PAIR.sub(rb"\1", value)
    parameter = Parameter(name.lower(), value, written, start, at, clean and good)
    rest = _VALUE.match(raw, at)
    if rest and rest[0].strip():
        # Behind the quotes: "a.exe".txt is two different names.
        written = written + rest[0].replace(b"\r\n", b"").strip()
        parameter = Parameter(name.lower(), value, written, start, rest.end(), clean=False)
    return parameter, rest.end() if rest else at


def _read_quoted(raw: bytes, at: int) -> tuple[bytes, bool | None, int]:
    """Return what quotes hold, whether they are closed (None: there are none), and the end."""
    match = _QUOTED.match(raw, at)
    if match is None:
        return b"", None, at
    end = match.end() if match[2] else len(raw)
    return match[1].replace(b"\r\n", b""), bool(match[2]), end


def strip_comments(raw: bytes) -> bytes:
    """Take out comments (RFC 5322 §3.2.2): the way that few readers go."""
    kept = bytearray()
    depth, quoted, escaped = 0, False, False
    for octet in raw:
        if escaped or octet == 0x5C:
            escaped = not escaped
        elif octet == 0x22 and not depth:
            quoted = not quoted
        elif octet == 0x28 and not quoted:
            depth += 1
        elif octet == 0x29 and depth:
            depth -= 1
            continue
        if not depth:
            kept.append(octet)
    return bytes(kept)


def join_pieces(parameters: tuple[Parameter, ...]) -> Iterator[tuple[str, bytes, str]]:
    """Yield name, octets and charset ("": not said) of parameters, RFC 2231 undone.

    Of one name, what is extended comes first: it is what readers prefer (RFC 6266 §4.3). Raises
    Unreadable for pieces (``name*0``) that do not follow each other: readers make various things
    of them.
    """
    whole: list[tuple[str, bytes, str]] = []
    pieces: dict[str, dict[int, tuple[bytes, bool]]] = {}
    for parameter in parameters:
        match = _PIECE.fullmatch(parameter.name)
        if match is None:
            continue
        name = match[1].decode("ascii", "replace")
        if "*" in name:
            raise Unreadable("the pieces of a parameter are numbered in a way of their own")
        if match[2] is not None:
            numbered = pieces.setdefault(name, {})
            if int(match[2]) in numbered:
                raise Unreadable("a piece of a parameter is there twice")
            numbered[int(match[2])] = (parameter.value, bool(match[3]))
        elif match[3]:
            yield (name, *_read_extended(parameter.value))
        else:
            whole.append((name, parameter.value, ""))
    for name, numbered in pieces.items():
        yield (name, *_join(numbered))
    yield from whole


def _join(numbered: dict[int, tuple[bytes, bool]]) -> tuple[bytes, str]:
    if sorted(numbered) != list(range(len(numbered))):
        raise Unreadable("a piece of a parameter is missing")
    octets, charset = b"", ""
    values = []
    for number in range(len(numbered)):
        octets, extended = numbered[number]
        if extended and not number:
            octets, charset = _read_extended(octets)
        elif extended:
            octets = _unquote(octets)
        values.append(octets)
    return b"".join(values), charset


def _read_extended(value: bytes) -> tuple[bytes, str]:
    """Read charset'language'text (RFC 2231 §4); without its quotes it is text only."""
    parts = value.split(b"'", 2)
    if len(parts) < 3:
        return _unquote(value), ""
    return _unquote(parts[2]), read_text(parts[0])


def _unquote(value: bytes) -> bytes:
    return _PERCENT.sub(lambda match: bytes.fromhex(match[1].decode()), value)
