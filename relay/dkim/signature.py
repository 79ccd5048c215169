"""One DKIM-Signature field, taken apart (RFC 6376 §3.5), and what can be said of it alone."""

import functools
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

# d= and b=, in tags with a ";" in front of the first as well: so a search goes from one to the next.
_DOMAIN = re.compile(rb";[ \t\r\n]*d[ \t\r\n]*=([^;]*)")
_SEAL = re.compile(rb";[ \t\r\n]*b[ \t\r\n]*=([^;]*)")
_FIELD_NAME = re.compile(rb"[!-9;-~]+")  # RFC 5322 §3.6.8
_NUMBER = re.compile(rb"[0-9]{1,20}")


# Must be there; and those that a signer writes into each of its signatures alike.
_NEEDED = (b"v", b"a", b"b", b"bh", b"d", b"h", b"s")
_ALIKE = (b"v", b"q", b"a", b"c", b"d", b"s", b"i", b"h", b"l")
_SIGNERS = 256  # whose terms are remembered: of 16 KiB each, at most


@dataclass(frozen=True, slots=True)
class Terms:
    """Who signs, and how: the same in all signatures that a signer makes."""

    algorithm: Algorithm
    domain: str  # d=, in lower case
    selector: str  # s=, in lower case
    identity: str  # the domain of i=: d=, or one below it
    head_form: Form
    body_form: Form
    names: tuple[bytes, ...]  # h=, in lower case
    length: int | None  # l=


@dataclass(frozen=True, slots=True)
class Signature:
    """What a field says. ``unsealed``: the field as it was signed, with nothing in b=."""

    terms: Terms
    digest: bytes  # bh=
    seal: bytes  # b=
    unsealed: bytes


def read_domain(field: bytes) -> str:
    """Return d= in lower case without reading the rest; "" when it cannot be read."""
    found = _DOMAIN.search(b";" + field.partition(b":")[2])
    return read_host(found[1].strip(BLANKS)) if found is not None else ""


def parse_signature(field: bytes, *, now: float) -> Signature:
    """Read a field, without the CRLF at its end. ``now``: seconds since 1970. Raises Unproven."""
    if len(field) > _OCTETS:
        raise Unproven(f"more than {_OCTETS} octets")
    name, colon, value = field.partition(b":")
    tags = parse_tags(value)
    for tag in _NEEDED:
        if not tags.get(tag):
            raise Unproven(f"{tag.decode()}= is missing")
    _check_times(tags, now)
    return Signature(
        terms=_read_terms(*map(tags.get, _ALIKE)),
        digest=_read_digest(tags[b"bh"]),
        seal=_read_seal(tags[b"b"]),
        unsealed=name + colon + _unseal(value),
    )


@functools.lru_cache(maxsize=_SIGNERS)
def _read_terms(
    version: bytes,
    query: bytes | None,
    algorithm: bytes,
    forms: bytes | None,
    domain: bytes,
    selector: bytes,
    identity: bytes | None,
    names: bytes,
    length: bytes | None,
) -> Terms:
    """Read what these tags say. Raises Unproven.

    Remembered: it takes longer than all else of a signature, but for what OpenSSL does.
    """
    if version != b"1":
        raise Unproven("v= is not 1")
    if query is not None and b"dns/txt" not in read_list(query):
        raise Unproven("q= is not dns/txt")
    signer, place = read_host(domain), read_host(selector)
    if not signer or not place:
        raise Unproven("d= or s= is no name in the DNS")
    head_form, body_form = _read_forms(forms if forms is not None else b"simple")
    return Terms(
        algorithm=_read_algorithm(algorithm),
        domain=signer,
        selector=place,
        identity=_read_identity(identity, signer),
        head_form=head_form,
        body_form=body_form,
        names=_read_names(names),
        length=_read_number("l", length),
    )


def _unseal(value: bytes) -> bytes:
    """Return the tags with nothing in b= (RFC 6376 §3.7): up to the next ";", blanks too."""
    found = _SEAL.search(b";" + value)
    return value[: found.start(1) - 1] + value[found.end(1) - 1 :] if found is not None else value


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


def _read_number(tag: str, value: bytes | None) -> int | None:
    if value is None:
        return None
    if not _NUMBER.fullmatch(value):
        raise Unproven(f"{tag}= is no number")
    return int(value)


def _check_times(tags: dict[bytes, bytes], now: float) -> None:
    made, ends = _read_number("t", tags.get(b"t")), _read_number("x", tags.get(b"x"))
    if made is not None and made > now + _AHEAD:
        raise Unproven("t= is in the future")
    if ends is not None and ends < now:
        raise Unproven("it has expired (x=)")
    if made is not None and ends is not None and ends <= made:
        raise Unproven("x= is before t=")
