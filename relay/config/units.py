"""The scalar types of the configuration file: durations, sizes, rates, endpoints, proxies.

Each has one ``parse_*`` function that takes what TOML delivers and raises ValueError with the
expected form; the loader adds the path of the key.
"""

import ipaddress
import math
import re
from typing import Literal

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
ProxyKind = Literal["socks5", "haproxy"]
Priority = Literal["urgent", "normal", "bulk"]


class Seconds(float):
    """A duration; in the file ``"30s"``, ``"5m"``, ``"4h"``, ``"5d"`` or a number of seconds."""

    __slots__ = ()


class Octets(int):
    """A size; in the file a number of octets or ``"50MiB"``."""

    __slots__ = ()


# Plain classes, not dataclasses: msgspec would read those as tables, these it hands to us.
class Rate:
    """So many in so many seconds; in the file ``"100/s"``, ``"500/m burst 20"``, ``"20000/d"``.

    ``burst``: how many may go at once, above the even flow of a pace; a cap has none.
    """

    __slots__ = ("burst", "count", "seconds")

    def __init__(self, count: int, seconds: int, burst: int = 0) -> None:
        """``burst`` 0: a fifth of a second's worth, at least 1."""
        self.count = count
        self.seconds = seconds
        self.burst = burst or max(1, count // (5 * seconds))

    @property
    def is_cap(self) -> bool:
        """True for rates by the hour and the day: a sum that may be used up at any time in it.

        Those by the second and the minute are a pace.
        """
        return self.seconds >= _CAP_SECONDS

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rate) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        """As the file has it."""
        rate = f"{self.count}/{_UNIT_NAMES.get(self.seconds) or f'{self.seconds}s'}"
        return rate if self.is_cap else f"{rate} burst {self.burst}"

    @property
    def _key(self) -> tuple[int, int, int]:
        return self.count, self.seconds, self.burst


class Rates:
    """Rates that all hold at once, shortest time first.

    In the file one, or a list: ``["200/s", "20000/d"]``.
    """

    __slots__ = ("windows",)

    def __init__(self, windows: tuple[Rate, ...]) -> None:
        self.windows = tuple(sorted(windows, key=lambda rate: rate.seconds))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rates) and self.windows == other.windows

    def __hash__(self) -> int:
        return hash(self.windows)

    def __repr__(self) -> str:
        return ", ".join(map(repr, self.windows))


class Endpoint:
    """A host (name or address) and a port; in the file ``"127.0.0.1:2525"``, ``"[::1]:2525"``."""

    __slots__ = ("host", "port")

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Endpoint) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __repr__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


_UNIT_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_UNIT_OCTETS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_UNIT_NAMES = {1: "s", 60: "m", 3600: "h", 86400: "d"}
_CAP_SECONDS = 3600
# Numbers of bounded length: Python refuses to read endless ones, in words that help nobody, and
# the store's scripts count in doubles.
_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)\s*(ms|s|m|h|d)")
_SIZE = re.compile(r"([0-9]{1,15})\s*(B|KiB|MiB|GiB|)")
_RATE = re.compile(r"([0-9]{1,9})\s*/\s*(s|m|h|d)(?:\s+burst\s+([0-9]{1,9}))?")
_ENDPOINT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]/@\s]+)):([0-9]{1,5})")
_PROXY_USER = re.compile(r"[^:\s\x00-\x1f]+")


def parse_seconds(value: object) -> Seconds:
    """Read a duration. Raises ValueError."""
    # TOML has words for infinity and for what is no number.
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
        return Seconds(value)
    if isinstance(value, str) and (found := _DURATION.fullmatch(value.strip())):
        return Seconds(float(found[1]) * _UNIT_SECONDS[found[2]])
    raise ValueError(f'expected a duration such as "30s", "5m", "4h" or "5d", got {value!r}')


def parse_octets(value: object) -> Octets:
    """Read a size. Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return Octets(value)
    if isinstance(value, str) and (found := _SIZE.fullmatch(value.strip())):
        return Octets(int(found[1]) * _UNIT_OCTETS[found[2]])
    raise ValueError(f'expected a size such as 1048576 or "50MiB", got {value!r}')


def parse_rate(value: object) -> Rate:
    """Read a rate. Raises ValueError."""
    found = _RATE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None or not int(found[1]) or (found[3] and not int(found[3])):
        raise ValueError(
            f'expected a rate such as "100/s", "500/m burst 20" or "20000/d", got {value!r}'
        )
    rate = Rate(int(found[1]), int(_UNIT_SECONDS[found[2]]), int(found[3] or 0))
    if found[3] and rate.is_cap:
        raise ValueError(
            "expected a burst only with a rate by the second or the minute "
            f"(one by the hour or the day may be used up at once), got {value!r}"
        )
    return rate


def parse_rates(value: object) -> Rates:
    """Read a rate, or a list of rates for different times. Raises ValueError."""
    rates = tuple(map(parse_rate, value)) if isinstance(value, list) else (parse_rate(value),)
    if not rates or len({rate.seconds for rate in rates}) < len(rates):
        raise ValueError(f"expected at least one rate, and one for each unit, got {value!r}")
    return Rates(rates)


def parse_endpoint(value: object) -> Endpoint:
    """Read host and port. Raises ValueError."""
    if (
        isinstance(value, str)
        and (found := _ENDPOINT.fullmatch(value.strip()))
        and int(found[3]) <= 65535
    ):
        return Endpoint(found[1] or found[2], int(found[3]))
    raise ValueError(f'expected "HOST:PORT" or "[IPv6]:PORT", got {value!r}')


def parse_proxy(value: str) -> tuple[ProxyKind, str, Endpoint]:
    """Read a proxy: its kind, the user it knows us by ("" for none), where it listens.

    Raises ValueError, which does not repeat the value: somebody may have put a password there.
    """
    scheme, _, rest = value.partition("://")
    user, at, address = rest.rpartition("@")
    try:
        endpoint = parse_endpoint(address)
    except ValueError:
        endpoint = None
    if endpoint is not None and endpoint.port and value == value.strip():
        if scheme == "haproxy" and not at:
            return "haproxy", "", endpoint
        # RFC 1929 §2: a user name of 1 to 255 octets.
        if scheme == "socks5" and (
            not at or (_PROXY_USER.fullmatch(user) and len(user.encode()) <= 255)
        ):
            return "socks5", user, endpoint
    raise ValueError(
        'expected "socks5://HOST:PORT", "socks5://USER@HOST:PORT" (the password has a file of its '
        'own) or "haproxy://HOST:PORT"'
    )


def parse_network(value: str) -> Network:
    """Read an address or a CIDR block. Raises ValueError."""
    try:
        return ipaddress.ip_network(value)
    except ValueError as error:
        raise ValueError(
            f'expected "google" or a network such as "192.0.2.0/24", got {value!r} ({error})'
        ) from None
