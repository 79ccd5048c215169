"""Posting reports over HTTPS (RFC 8460 §5.4).

A stranger's record says where to. So, as with policies (fetch.py): the addresses come from our own
resolver and must be allowed, nothing of the environment has a say, no redirection is followed, of an
answer only the status is read, and all of it takes a short time. The certificate must hold: the RFC
lets us ignore it (§3), but then anybody on the way could keep failures that he caused to himself.
"""

import ssl
from collections.abc import Callable

import httpx2
import trio

from relay.errors import OutgateError
from relay.net.answer import open_answer
from relay.net.resolver import NameNotFound, NameUnavailable, Resolver
from workers.tls.rua import read_https

_POST_FOR = 20.0  # s
_MAX_ADDRESSES = 4
# A host that did not answer is not tried for a while: many domains name the same one. s
_DOWN_FOR = 240.0
_MAX_DOWN = 1000


class NotPosted(OutgateError):
    """The report was not taken; the text says why."""


class Courier:
    """Of one process."""

    def __init__(
        self, resolver: Resolver, *, context: ssl.SSLContext, is_allowed: Callable[[str], bool]
    ) -> None:
        """``context``: verifies, and is not the one for mail (HTTP writes its ALPN into it).
        ``is_allowed``: tells whether an address may be connected to.
        """
        self._resolver = resolver
        self._context = context
        self._is_allowed = is_allowed
        self._down: dict[str, tuple[float, str]] = {}  # host -> until when (trio time), and why

    async def post(self, uri: str, content: bytes) -> None:
        """Have a report (gzip) taken by an ``https:`` URI. Raises NotPosted."""
        place = read_https(uri)
        if place is None:
            raise NotPosted(f"not a URI that can be posted to: {uri}")
        host, port, target = place
        until, why = self._down.get(host, (0.0, ""))
        if until > trio.current_time():
            raise NotPosted(why)
        with trio.move_on_after(_POST_FOR):
            await self._post(host, port, target, content)
            return
        raise self._note_down(host, f"{host} took longer than {_POST_FOR:g} s")

    def _note_down(self, host: str, why: str) -> NotPosted:
        if len(self._down) >= _MAX_DOWN:
            self._down.clear()
        self._down[host] = (trio.current_time() + _DOWN_FOR, why)
        return NotPosted(why)

    async def _post(self, host: str, port: int, target: str, content: bytes) -> None:
        addresses = await self._find_addresses(host)
        failure = ""
        async with httpx2.AsyncClient(
            verify=self._context, trust_env=False, follow_redirects=False, timeout=None
        ) as client:
            for address in addresses:
                try:
                    status = await self._send(client, address, host, port, target, content)
                except httpx2.ConnectError as error:
                    failure = f"{host} ({address}): {_explain(error)}"
                    continue
                except httpx2.HTTPError as error:
                    raise NotPosted(f"{host} ({address}): {_explain(error)}") from error
                # §5.4: 200 or 201, typically; other codes could be a failure.
                if status // 100 != 2:
                    raise NotPosted(f"{host} answered with {status}")
                return
        raise self._note_down(host, failure)

    async def _find_addresses(self, host: str) -> list[str]:
        try:
            found = (await self._resolver.find_addresses(host)).records
        except (NameNotFound, NameUnavailable) as error:
            raise NotPosted(str(error)) from error
        allowed = [address for address in found if self._is_allowed(address)]
        if not allowed:
            why = "none that may be connected to" if found else "no address"
            raise NotPosted(f"{host} has {why}")
        return allowed[:_MAX_ADDRESSES]

    @staticmethod
    async def _send(
        client: httpx2.AsyncClient, address: str, host: str, port: int, target: str, content: bytes
    ) -> int:
        """Connect to an address, with the host's name for SNI, certificate and Host field."""
        literal = f"[{address}]" if ":" in address else address
        request = client.build_request(
            "POST",
            f"https://{literal}:{port}{target}",
            content=content,
            headers={
                "Host": host if port == 443 else f"{host}:{port}",
                "Content-Type": "application/tlsrpt+gzip",
                "User-Agent": "outgate",
                "Connection": "close",
            },
            extensions={"sni_hostname": host},
        )
        async with open_answer(client, request) as response:
            return response.status_code


def _explain(error: httpx2.HTTPError) -> str:
    """The client's words, or those of what stands behind it: TLS trouble has none of its own."""
    cause: BaseException | None = error
    while cause is not None:
        if text := str(cause):
            return text
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__
