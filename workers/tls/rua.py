"""Where a domain wants its TLS reports: the record at ``_smtp._tls`` (RFC 8460 §3)."""

import re
from collections import OrderedDict
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

import trio

from relay.address import find_domain
from relay.net.resolver import NameUnavailable, Resolver

MAX_URIS = 5  # of one record; a stranger decides whom we write to
_MAX_RECORD = 4096
_MAX_URI = 1024
_MAX_DOMAINS = 50_000
_KNOWN_FOR = 3600.0  # whether a domain wants reports, s
_UNKNOWN_FOR = 300.0  # ... when nobody could say

_NEVER = (-1.0, None)

_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_URI = re.compile(r"[!-~]+")


def parse_record(txts: Sequence[bytes]) -> tuple[str, ...]:
    """Return the URIs of a domain's record, at most MAX_URIS; none when it wants no reports."""
    # RFC 8460 §3: others are discarded, and of ours there must be one.
    records = [txt for txt in txts if re.match(rb"v=TLSRPTv1[ \t]*;", txt)]
    if len(records) != 1 or len(records[0]) > _MAX_RECORD or not records[0].isascii():
        return ()
    uris: list[str] = []
    for field in records[0].decode("ascii").split(";")[1:]:
        name, _, value = field.strip(" \t").partition("=")
        if name == "rua":
            uris += [uri.strip(" \t") for uri in value.split(",")]
    return tuple(dict.fromkeys(filter(_is_usable, uris)))[:MAX_URIS]


async def find_rua(resolver: Resolver, domain: str) -> tuple[str, ...]:
    """Return where a domain wants its reports: ``mailto:`` and ``https:`` URIs; often nowhere.

    Raises NameUnavailable.
    """
    if not _HOST.fullmatch(domain):
        return ()
    return parse_record((await resolver.find_txt(f"_smtp._tls.{domain}")).records)


def read_mailto(uri: str) -> tuple[str, str] | None:
    """Return the address that a ``mailto:`` URI names, and its domain (RFC 6068)."""
    scheme, _, rest = uri.partition(":")
    # An exclamation mark must be encoded: behind one DMARC's records have a size, and ours the same
    # by mistake. Header fields behind the question mark are for people's mail programs.
    address = unquote(re.split(r"[?!]", rest, maxsplit=1)[0])
    local, _, _ = address.rpartition("@")
    domain = find_domain(address.encode("utf-8")) or ""
    if scheme.lower() != "mailto" or not _LOCAL.fullmatch(local) or len(local) > 64:
        return None
    return (f"{local}@{domain}", domain) if _HOST.fullmatch(domain) else None


def read_https(uri: str) -> tuple[str, int, str] | None:
    """Return host, port, and path with query of an ``https:`` URI."""
    try:
        parts = urlsplit(uri)
        host, port = (parts.hostname or "").rstrip("."), parts.port or 443
    except ValueError:
        return None
    if parts.scheme != "https" or parts.username is not None or not _HOST.fullmatch(host):
        return None
    return host, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _is_usable(uri: str) -> bool:
    if len(uri) > _MAX_URI or not _URI.fullmatch(uri):
        return False
    return read_mailto(uri) is not None or read_https(uri) is not None


class Audience:
    """Which domains want reports: asked in the DNS, and remembered for an hour."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._known: OrderedDict[str, tuple[float, bool | None]] = OrderedDict()

    async def learn(self, domain: str) -> None:
        """Ask, unless it is known."""
        if self._known.get(domain, _NEVER)[0] > trio.current_time():
            return
        try:
            wants: bool | None = bool(await find_rua(self._resolver, domain))
        except NameUnavailable:
            wants = None
        known_for = _UNKNOWN_FOR if wants is None else _KNOWN_FOR
        self._known[domain] = (trio.current_time() + known_for, wants)
        self._known.move_to_end(domain)
        while len(self._known) > _MAX_DOMAINS:
            self._known.popitem(last=False)

    def wants(self, domain: str) -> bool | None:
        """Tell whether a domain wants reports; None while that is not known, or not any more."""
        until, wants = self._known.get(domain, _NEVER)
        return wants if until > trio.current_time() else None
