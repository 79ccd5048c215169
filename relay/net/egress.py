"""How a source reaches a host: by itself, or through a proxy on the machine that has its address.

``connect`` divides the blame: SourceUnusable for whatever is on our side of the host, the proxy
included, HostUnreachable for the host. ``check`` says whether the source can be used from here.
"""

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from relay.config.schema import Source
from relay.config.units import parse_endpoint
from relay.errors import ConfigError
from relay.net.connect import bind_source, connect
from relay.net.haproxy import HaproxyEgress
from relay.net.proxy import Proxy
from relay.net.socks import SocksEgress
from relay.net.stream import Stream

_MAX_SECRET = 255  # octets. RFC 1929 §2: one octet says how long user and password are
_EXPECTED = 'expected "socks5://HOST:PORT", "socks5://USER@HOST:PORT" or "haproxy://HOST:PORT"'


class Egress(Protocol):
    """The way out of one source. Any number of tasks may use it at the same time."""

    async def connect(self, address: str, port: int) -> Stream:
        """Connect to a host. Raises SourceUnusable, HostUnreachable; the deadline is yours."""

    async def check(self) -> None:
        """See whether the source can be used now; asks no host. Raises SourceUnusable."""


@dataclass(frozen=True, slots=True)
class DirectEgress:
    """A source whose address is on this machine."""

    source: str

    async def connect(self, address: str, port: int) -> Stream:
        """Connect from our own address."""
        return await connect(address, port, source=self.source)

    async def check(self) -> None:
        """Bind the address."""
        bind_source(self.source).close()


def make_egress(source: Source) -> Egress:
    """Return the way out of a source; reads the password's file. Raises ConfigError."""
    try:
        return _make(source)
    except ValueError as error:
        raise ConfigError([f"source {source.name!r}: {error}"]) from None


def _make(source: Source) -> Egress:
    if not source.proxy:
        if source.proxy_password_file:
            raise ValueError("proxy_password_file: there is no proxy")
        return DirectEgress(source.address)
    scheme, user, proxy = _parse(source.proxy)
    if bool(user) != bool(source.proxy_password_file):
        raise ValueError("proxy: a USER@ needs a proxy_password_file, and the other way round")
    if scheme == "haproxy":
        return _make_haproxy(source.address, user, proxy)
    password = _read_password(source.proxy_password_file) if user else ""
    return SocksEgress(source.address, proxy, user, password)


def _make_haproxy(address: str, user: str, proxy: Proxy) -> HaproxyEgress:
    if user:
        raise ValueError("proxy: haproxy:// knows no users")
    if ipaddress.ip_address(address).is_unspecified:
        raise ValueError(f"address: a haproxy:// proxy must be told one, got {address!r}")
    return HaproxyEgress(address, proxy)


def _parse(url: str) -> tuple[str, str, Proxy]:
    """Return scheme, user ("" for none) and proxy. Raises ValueError."""
    scheme, _, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    if ":" in user:
        # Without the value: a password must not get into a log with our help.
        raise ValueError("proxy: a password belongs into proxy_password_file, not into the URL")
    mismatch = ValueError(f"proxy: {_EXPECTED}, got {url.rpartition('@')[2]!r}")
    try:
        endpoint = parse_endpoint(place)
    except ValueError:
        raise mismatch from None
    if scheme not in ("socks5", "haproxy") or bool(user) != bool(at) or not endpoint.port:
        raise mismatch
    if len(user.encode()) > _MAX_SECRET:
        raise ValueError(f"proxy: a user name has at most {_MAX_SECRET} octets")
    return scheme, user, Proxy(endpoint.host, endpoint.port)


def _read_password(path: str) -> str:
    """Return the first line of a file. Raises ValueError, which never says what is in it."""
    try:
        password = Path(path).read_text("utf-8").rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"proxy_password_file: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"proxy_password_file: {path} is not UTF-8") from None
    if not 1 <= len(password.encode()) <= _MAX_SECRET or "\n" in password:
        raise ValueError(f"proxy_password_file: expected one line, 1 to {_MAX_SECRET} octets")
    return password
