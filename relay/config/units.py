"""The scalar types of the configuration file: durations, sizes, rates, networks, endpoints.

Each has one ``parse_*`` function that takes what TOML delivers and raises ValueError with the
expected form; the loader adds the path of the key.
"""

import ipaddress
import re

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Seconds(float):
    """A duration; in the file ``"30s"``, ``"5m"``, ``"4h"``, ``"5d"`` or a number of seconds."""

    __slots__ = ()


class Octets(int):
    """A size; in the file a number of octets or ``"50MiB"``."""

    __slots__ = ()


# Plain classes, not dataclasses: msgspec would read those as tables, these it hands to us.
class Rate:
    """So many in so many seconds; in the file ``"100/s"``, ``"500/m"``, ``"20000/d"``.

    ``burst``: how many may go at once, above the even flow; in the file ``"100/s burst 50"``.
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
        return self.seconds >= 3600

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rate) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __repr__(self) -> str:
        return f"{self.count}/{self.seconds}s burst {self.burst}"


class Rates:
    """Rates that all hold at once; in the file one, or a list: ``["200/s", "20000/d"]``."""

    __slots__ = ("windows",)

    def __init__(self, windows: tuple[Rate, ...]) -> None:
        self.windows = windows

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
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)")
_SIZE = re.compile(r"([0-9]+)\s*(B|KiB|MiB|GiB|)")
_RATE = re.compile(r"([0-9]+)\s*/\s*(s|m|h|d)(?:\s+burst\s+([0-9]+))?")
_ENDPOINT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]\s]+)):([0-9]{1,5})")


def parse_seconds(value: object) -> Seconds:
    """Read a duration. Raises ValueError."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
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
    if isinstance(value, str) and (found := _RATE.fullmatch(value.strip())) and int(found[1]) > 0:
        return Rate(int(found[1]), int(_UNIT_SECONDS[found[2]]), int(found[3] or 0))
    raise ValueError(
        f'expected a rate such as "100/s", "500/m burst 20" or "20000/d", got {value!r}'
    )


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


def parse_network(value: str) -> Network:
    """Read an address or a CIDR block. Raises ValueError."""
    try:
        return ipaddress.ip_network(value)
    except ValueError as error:
        raise ValueError(
            f'expected "google" or a network such as "192.0.2.0/24", got {value!r} ({error})'
        ) from None
