"""Networks off a document in Google's format: a file, or an https URL.

    {"prefixes": [{"ipv4Prefix": "192.0.2.0/24"}, {"ipv6Prefix": "2001:db8::/32", ...}], ...}

(goog.json and cloud.json of gstatic.com/ipranges; what else stands there is not looked at.) Not that
those two would be of use here: they are all of Google, its cloud's customers included.

Over HTTPS the certificate must hold, no redirection is followed, nothing of the environment has a
say, and octets and time are bounded.
"""

import ipaddress
import ssl
from collections.abc import Iterable
from pathlib import Path

import httpx2
import msgspec
import trio

from relay.config.units import Network
from relay.errors import OutgateError, StartError
from relay.net.answer import open_answer, read_body
from relay.net.resolver import NameNotFound, NameUnavailable, Resolver
from relay.net.tls import make_client_context

MAX_OCTETS = 1 << 20
MOST_NETWORKS = 10_000
FETCH_FOR = 30.0  # seconds
# One of several addresses may take this long before the next is tried.
_CONNECT_FOR = 10.0
_MAX_ADDRESSES = 4
_HEADERS = {"User-Agent": "outgate", "Accept-Encoding": "identity", "Connection": "close"}


class RangesUnusable(OutgateError):
    """A document cannot be had or read: which, and why."""


class _Prefix(msgspec.Struct):
    """One entry; it has the one or the other."""

    ipv4: str = msgspec.field(name="ipv4Prefix", default="")
    ipv6: str = msgspec.field(name="ipv6Prefix", default="")


class _Document(msgspec.Struct):
    prefixes: list[_Prefix]


_decode = msgspec.json.Decoder(_Document).decode


async def read_ranges(
    place: str, resolver: Resolver | None, *, ca_file: str
) -> tuple[Network, ...]:
    """Return the networks of the document at ``place``, a file or an https URL.

    ``ca_file``: authorities instead of the system's. Raises RangesUnusable.
    """
    if place.startswith("https://"):
        octets = await _fetch(place, resolver, ca_file)
    else:
        # A thread: the file may be on a disk that does not answer just now.
        octets = await trio.to_thread.run_sync(_read_file, place, abandon_on_cancel=True)
    if len(octets) > MAX_OCTETS:
        raise RangesUnusable(f"{place}: more than {MAX_OCTETS} octets")
    try:
        return await trio.to_thread.run_sync(parse_ranges, octets)
    except RangesUnusable as error:
        raise RangesUnusable(f"{place}: {error}") from None


def parse_ranges(octets: bytes) -> tuple[Network, ...]:
    """Read a document. Raises RangesUnusable."""
    try:
        document = _decode(octets)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RangesUnusable(f"not in the format of goog.json: {str(error)[:200]}") from None
    if len(document.prefixes) > MOST_NETWORKS:
        raise RangesUnusable(f"more than {MOST_NETWORKS:,} networks")
    return tuple(map(_read_prefix, document.prefixes))


def _read_prefix(prefix: _Prefix) -> Network:
    if bool(prefix.ipv4) == bool(prefix.ipv6):
        raise RangesUnusable("an entry of prefixes: expected one of ipv4Prefix and ipv6Prefix")
    try:
        if prefix.ipv4:
            return ipaddress.IPv4Network(prefix.ipv4)
        return ipaddress.IPv6Network(prefix.ipv6)
    except ValueError as error:
        raise RangesUnusable(f"an entry of prefixes: {str(error)[:200]}") from None


def _read_file(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(MAX_OCTETS + 1)
    except OSError as error:
        raise RangesUnusable(f"{path}: cannot be read: {error.strerror}") from error


# -- HTTPS


async def _fetch(place: str, resolver: Resolver | None, ca_file: str) -> bytes:
    try:
        url = httpx2.URL(place)
        context = make_client_context(verify=True, ca_file=ca_file)
    except (httpx2.InvalidURL, StartError) as error:
        raise RangesUnusable(f"{place}: {error}") from error
    with trio.move_on_after(FETCH_FOR):
        addresses = await _find_addresses(url.host, resolver)
        timeout = httpx2.Timeout(None, connect=_CONNECT_FOR)
        async with httpx2.AsyncClient(
            verify=context, trust_env=False, follow_redirects=False, timeout=timeout
        ) as client:
            return await _get_from_any(client, url, addresses)
    raise RangesUnusable(f"{place}: no document came within {FETCH_FOR:g} s")


async def _find_addresses(host: str, resolver: Resolver | None) -> list[str]:
    """Ask our own resolver, as for everything else; an address is its own."""
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass
    if resolver is None:
        raise RangesUnusable(f"{host} cannot be looked up: there is no name server")
    try:
        found = (await resolver.find_addresses(host)).records
    except (NameNotFound, NameUnavailable) as error:
        raise RangesUnusable(str(error)) from error
    if not found:
        raise RangesUnusable(f"{host} has no address")
    return list(found[:_MAX_ADDRESSES])


async def _get_from_any(
    client: httpx2.AsyncClient, url: httpx2.URL, addresses: Iterable[str]
) -> bytes:
    """Ask the first address that can be connected to: its answer stands, good or bad."""
    failure: RangesUnusable | None = None
    for address in addresses:
        try:
            return await _get(client, url, address)
        except httpx2.HTTPError as error:
            failure = RangesUnusable(f"{url} ({address}): {_explain(error)}")
            if not isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
                break
    assert failure is not None
    raise failure


async def _get(client: httpx2.AsyncClient, url: httpx2.URL, address: str) -> bytes:
    """Raises RangesUnusable for an answer that is none, httpx2.HTTPError for the rest."""
    # The name is in the Host field, in SNI, and it is what the certificate must be for.
    request = client.build_request(
        "GET",
        url.copy_with(host=address),
        headers=_HEADERS | {"Host": url.netloc.decode("ascii")},
        extensions={"sni_hostname": url.host},
    )
    async with open_answer(client, request) as response:
        if response.status_code != 200:
            what = "a redirection, which is not followed: " if response.is_redirect else ""
            raise RangesUnusable(f"{url} answered with {what}{response.status_code}")
        return await read_body(response, MAX_OCTETS)


def _explain(error: httpx2.HTTPError) -> str:
    """Put the client's error into our words; TLS trouble stands behind its ConnectError."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"certificate not accepted: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed: {cause.reason or cause}"
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__
