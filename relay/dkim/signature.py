"""One DKIM-Signature field, taken apart (RFC 6376 §3.5), and what can be said of it alone."""

import re
from dataclasses import dataclass
from typing import Literal, get_args

from relay.dkim.canon import Form
from relay.dkim.tags import BLANKS, Unproven, parse_tags, read_host, read_list, read_octets

NAME = b"dkim-signature"

Algorithm = Literal["rsa", "ed25519"]  # of the key; the hash is SHA-256 with both

_OCTETS = 16 * 1024  # of a field. Gmail's have 1 KiB
_SEAL_OCTETS = 1024  # RSA of 8192 bits
# Each is made canonical on the loop, for each of a few signatures. Gmail names about ten, and who
# names all that there are twice some dozens.
_NAMES = 500
_AHEAD = 86_400.0  # s by which a signer's clock may be ahead

_FIELD_NAME = re.compile(rb"[!-9;-~]+")  # RFC 5322 §3.6.8
_NUMBER = re.compile(rb"[0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class Signature:
    """What a field says. ``unsealed``: the field as it was signed, with nothing in b=."""

    algorithm: Algorithm
    domain: str  # d=, in lower case
    selector: str  # s=, in lower case
    identity: str  # the domain of i=: d=, or one below it
    head_form: Form
    body_form: Form
    names: tuple[bytes, ...]  # h=, in lower case
    digest: bytes  # bh=
    length: int | None  # l=
    seal: bytes  # b=
    unsealed: bytes


def read_domain(field: bytes) -> str:
    """Return d= in lower case without reading the rest; "" when it cannot be read."""
    # A tag begins at the start, or behind a ";".
    for tag in field.partition(b":")[2].split(b";"):
        name, equals, value = tag.partition(b"=")
        if equals and name.strip(BLANKS) == b"d":
            return read_host(value.strip(BLANKS))
    return ""


def parse_signature(field: bytes, *, now: float) -> Signature:
    """Read a field, without the CRLF at its end. ``now``: seconds since 1970. Raises Unproven."""
    if len(field) > _OCTETS:
        raise Unproven(f"more than {_OCTETS} octets")
    name, colon, value = field.partition(b":")
    tags = parse_tags(value)
    for tag in (b"v", b"a", b"b", b"bh", b"d", b"h", b"s"):
        if not tags.get(tag):
            raise Unproven(f"{tag.decode()}= is missing")
    if tags[b"v"] != b"1":
        raise Unproven("v= is not 1")
    if b"dns/txt" not in read_list(tags.get(b"q", b"dns/txt")):
        raise Unproven("q= is not dns/txt")
    _check_times(tags, now)
    domain, selector = read_host(tags[b"d"]), read_host(tags[b"s"])
    if not domain or not selector:
        raise Unproven("d= or s= is no name in the DNS")
    head_form, body_form = _read_forms(tags.get(b"c", b"simple"))
    return Signature(
        algorithm=_read_algorithm(tags[b"a"]),
        domain=domain,
        selector=selector,
        identity=_read_identity(tags.get(b"i"), domain),
        head_form=head_form,
        body_form=body_form,
        names=_read_names(tags[b"h"]),
        digest=_read_digest(tags[b"bh"]),
        length=_read_number(tags, b"l"),
        seal=_read_seal(tags[b"b"]),
        unsealed=name + colon + _unseal(value),
    )


def _unseal(value: bytes) -> bytes:
    """Return the tags with nothing in b= (RFC 6376 §3.7): up to the next ";", blanks too."""
    tags = value.split(b";")
    for place, tag in enumerate(tags):
        name, equals, _ = tag.partition(b"=")
        if equals and name.strip(BLANKS) == b"b":
            tags[place] = name + equals
            break
    return b";".join(tags)


def _read_algorithm(value: bytes) -> Algorithm:
    match value.lower():
        case b"rsa-sha256":
            return "rsa"
        case b"ed25519-sha256":
            return "ed25519"
        case b"rsa-sha1":
            # RFC 8301 §3.1
            raise Unproven("a= is rsa-sha1, which does not count any more")
        case _:
            raise Unproven("a= is not known")


def _read_forms(value: bytes) -> tuple[Form, Form]:
    """Return c=, for the head and for the body; what is left out is simple."""
    head, _, body = value.lower().decode("latin-1").partition("/")
    forms = {form: form for form in get_args(Form)}
    try:
        return forms[head], forms[body or "simple"]
    except KeyError:
        raise Unproven("c= is not known") from None


def _read_identity(value: bytes | None, domain: str) -> str:
    """Return the domain of i=, ``[local part]@domain``."""
    if value is None:
        return domain
    _, at, host = value.rpartition(b"@")
    identity = read_host(host) if at else ""
    if identity != domain and not identity.endswith(f".{domain}"):
        raise Unproven("i= is not of d=")
    return identity


def _read_names(value: bytes) -> tuple[bytes, ...]:
    names = read_list(value)
    if not all(map(_FIELD_NAME.fullmatch, names)):
        raise Unproven("h= cannot be read")
    if len(names) > _NAMES:
        raise Unproven(f"h= names more than {_NAMES} fields")
    if b"from" not in names:
        raise Unproven("h= does not name From")  # RFC 6376 §5.4
    return tuple(names)


def _read_digest(value: bytes) -> bytes:
    digest = read_octets(value)
    if len(digest) != 32:
        raise Unproven("bh= is no SHA-256")
    return digest


def _read_seal(value: bytes) -> bytes:
    seal = read_octets(value)
    if not seal or len(seal) > _SEAL_OCTETS:
        raise Unproven("b= is no signature")
    return seal


def _read_number(tags: dict[bytes, bytes], tag: bytes) -> int | None:
    value = tags.get(tag)
    if value is None:
        return None
    if not _NUMBER.fullmatch(value):
        raise Unproven(f"{tag.decode()}= is no number")
    return int(value)


def _check_times(tags: dict[bytes, bytes], now: float) -> None:
    made, ends = _read_number(tags, b"t"), _read_number(tags, b"x")
    if made is not None and made > now + _AHEAD:
        raise Unproven("t= is in the future")
    if ends is not None and ends < now:
        raise Unproven("it has expired (x=)")
    if made is not None and ends is not None and ends <= made:
        raise Unproven("x= is before t=")
