"""Fetching a domain's MTA-STS policy over HTTPS (RFC 8461 §3.3).

A stranger decides where we connect to and what comes back. So the host's addresses come from our
own resolver and must be allowed, nothing of the environment (proxies, .netrc) has a say, no
redirection is followed, no cookie kept, and time and size are bounded.

The client connects to an address, not to a name: the name is in the Host field, in SNI, and it is
what the certificate must be for.
"""

import functools
import ssl
from collections.abc import Callable, Iterable

import httpx2
import trio

from relay.errors import OutgateError
from relay.net.answer import open_answer, read_body
from relay.net.resolver import NameNotFound, NameUnavailable, Resolver
from workers.tls.guard import Failing
from workers.tls.pkix import Authorities

PATH = "/.well-known/mta-sts.txt"
# RFC 8461 §3.3 suggests a minute and 64 KiB. Mail waits for it, so it is less here.
FETCH_FOR = 30.0
MAX_OCTETS = 64 * 1024
# One of several addresses may take this long before the next is tried.
_CONNECT_FOR = 10.0
_MAX_ADDRESSES = 4
_HEADERS = {"User-Agent": "outgate", "Accept-Encoding": "identity", "Connection": "close"}


class StsFetchFailed(OutgateError):
    """There is no policy to be had. ``failing`` as reports say it (RFC 8460 §4.3)."""

    def __init__(self, failing: Failing, text: str) -> None:
        super().__init__(text)
        self.failing: Failing = failing


@functools.cache
def make_context(ca_file: str = "") -> ssl.SSLContext:
    """Build the TLS context, once. ``ca_file``: authorities instead of the system's.

    It is not the one that mail goes out with: the HTTP client writes its ALPN protocols into it.
    Raises StartError for a file that cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    Authorities.load(ca_file).load_into(context)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # RFC 8461 §3.3: the name must be a DNS-ID; a common name is not looked at.
    context.hostname_checks_common_name = False
    return context


async def fetch_policy(
    domain: str,
    resolver: Resolver,
    *,
    context: ssl.SSLContext,
    is_allowed: Callable[[str], bool],
    port: int = 443,
) -> bytes:
    """Return what a domain publishes as its policy, whatever that is; at most MAX_OCTETS.

    ``is_allowed``: tells whether an address may be connected to. Raises StsFetchFailed.
    """
    host = f"mta-sts.{domain}"
    with trio.move_on_after(FETCH_FOR):
        addresses = await _find_addresses(host, resolver, is_allowed)
        timeout = httpx2.Timeout(None, connect=_CONNECT_FOR)
        async with httpx2.AsyncClient(
            verify=context, trust_env=False, follow_redirects=False, timeout=timeout
        ) as client:
            return await _get_from_any(client, host, addresses, port)
    raise _fail(f"{host}: no policy came within {FETCH_FOR:g} s")


async def _find_addresses(
    host: str, resolver: Resolver, is_allowed: Callable[[str], bool]
) -> list[str]:
    try:
        found = (await resolver.find_addresses(host)).records
    except (NameNotFound, NameUnavailable) as error:
        raise _fail(str(error)) from error
    allowed = [address for address in found if is_allowed(address)]
    if not allowed:
        why = "no address that may be connected to" if found else "no address"
        raise _fail(f"{host} has {why}")
    return allowed[:_MAX_ADDRESSES]


async def _get_from_any(
    client: httpx2.AsyncClient, host: str, addresses: Iterable[str], port: int
) -> bytes:
    """Ask the first address that can be connected to: its answer stands, good or bad."""
    failure: StsFetchFailed | None = None
    for address in addresses:
        try:
            return await _get(client, host, address, port)
        except httpx2.HTTPError as error:
            failure = _explain(host, address, error)
            if not isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
                break
    assert failure is not None
    raise failure


async def _get(client: httpx2.AsyncClient, host: str, address: str, port: int) -> bytes:
    """Raises StsFetchFailed for an answer that is none, httpx2.HTTPError for the rest."""
    url = httpx2.URL(scheme="https", host=address, port=port, path=PATH)
    request = client.build_request(
        "GET", url, headers=_HEADERS | {"Host": host}, extensions={"sni_hostname": host}
    )
    async with open_answer(client, request) as response:
        _check(host, response)
        return await _read(host, response)


def _check(host: str, response: httpx2.Response) -> None:
    # RFC 8461 §3.3: only 200 is a policy, and a redirection must not be followed.
    if response.status_code != 200:
        what = "a redirection, which is not to be followed: " if response.is_redirect else ""
        raise _fail(f"{host} answered with {what}{response.status_code}")
    # §3.2: who may put pictures onto a site must not be able to publish its policy.
    kind = response.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "text/plain":
        raise _fail(f"{host} answered with {kind[:80] or 'no content type'}, not with text/plain")


async def _read(host: str, response: httpx2.Response) -> bytes:
    octets = await read_body(response, MAX_OCTETS)
    if len(octets) > MAX_OCTETS:
        # Half a policy would be another policy.
        raise _fail(f"{host}: more than {MAX_OCTETS} octets are not a policy")
    return octets


def _fail(text: str) -> StsFetchFailed:
    return StsFetchFailed("sts-policy-fetch-error", text)


def _explain(host: str, address: str, error: httpx2.HTTPError) -> StsFetchFailed:
    """Put the client's error into our words; TLS trouble stands behind its ConnectError."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            text = f"{host}: certificate not accepted: {cause.verify_message}"
            return StsFetchFailed("sts-webpki-invalid", text)
        if isinstance(cause, ssl.SSLError):
            text = f"{host}: TLS failed: {cause.reason or cause}"
            return StsFetchFailed("sts-webpki-invalid", text)
        cause = cause.__cause__ or cause.__context__
    return _fail(f"{host} ({address}): {str(error) or type(error).__name__}")
