"""Where the store is, as ``store.url`` says: one server, what Sentinels watch, or a Cluster.

    redis://[USER:PASSWORD@]HOST:PORT/DB             one server; rediss:// with TLS
    unix:///PATH
    redis+sentinel://[USER:PASSWORD@]HOST:PORT,HOST:PORT/SERVICE[/DB]
    redis+cluster://[USER:PASSWORD@]HOST:PORT,HOST:PORT

``rediss+...`` talks TLS to all of them. Options follow a ``?`` and are those of redis-py's own URLs
(``ssl_ca_certs=...``); user and password are the servers', the Sentinels' own are the options
``sentinel_username`` and ``sentinel_password``. A password that is in a file of its own
(``store.password_file``) is put into the URL when the store is looked for.
"""

from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, quote, urlencode

Kind = Literal["plain", "sentinel", "cluster"]
Place = tuple[str, int]  # host and port

_MOST_HOSTS = 64
_PLAIN = ("redis", "rediss", "unix")
_PORTS = {"sentinel": 26379, "cluster": 6379}
_SHAPE = "expected {}+{}://HOST:PORT,HOST:PORT{}"


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """A URL taken apart. ``hosts``: Sentinels, or some nodes of a Cluster; of neither: none."""

    url: str
    kind: Kind
    hosts: tuple[Place, ...] = ()
    service: str = ""  # what the Sentinels call the master
    database: str = "0"
    _scheme: str = ""
    _user: str = ""  # "user:password@", still quoted
    _options: tuple[tuple[str, str], ...] = ()

    def make_url(self, place: Place) -> str:
        """Return the URL of one server of several, as redis-py reads it."""
        return self._write(place, self._user, self.database, self._options)

    def make_sentinel_url(self, place: Place) -> str:
        """Return the URL of one Sentinel, with the Sentinels' own password if they have one."""
        own = dict(self._options)
        user = own.get("sentinel_username", "")
        password = own.get("sentinel_password", "")
        identity = f"{quote(user, '')}:{quote(password, '')}@" if user or password else ""
        return self._write(place, identity, "0", self._options)

    def _write(
        self, place: Place, user: str, database: str, options: tuple[tuple[str, str], ...]
    ) -> str:
        kept = urlencode([pair for pair in options if not pair[0].startswith("sentinel_")])
        return f"{self._scheme}://{user}{write_place(place)}/{database}{'?' if kept else ''}{kept}"


def write_place(place: Place) -> str:
    """Return HOST:PORT; an IPv6 address in brackets."""
    host, port = place
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def read_store_url(url: str) -> StoreAddress:
    """Take ``store.url`` apart. Raises ValueError, with what was expected."""
    scheme, _, rest = url.partition("://")
    if scheme in _PLAIN:
        return StoreAddress(url, "plain")
    base, _, kind = scheme.partition("+")
    if base not in ("redis", "rediss") or kind not in ("sentinel", "cluster"):
        raise ValueError(
            "expected redis://HOST:PORT/0, rediss://..., unix:///PATH, redis+sentinel://... "
            "or redis+cluster://..."
        )
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    user, at, hosts = authority.rpartition("@")
    shape = _SHAPE.format(base, kind, "/SERVICE/0" if kind == "sentinel" else "")
    service, database = _read_path(kind, path, shape)
    return StoreAddress(
        url,
        "sentinel" if kind == "sentinel" else "cluster",
        _read_hosts(hosts, _PORTS[kind], shape),
        service,
        database,
        base,
        user + at,
        tuple(parse_qsl(query, keep_blank_values=True)),
    )


def _read_path(kind: str, path: str, shape: str) -> tuple[str, str]:
    """Return the name of the service and the number of the database."""
    service, *more = path.split("/") if kind == "sentinel" else ("", path)
    database = "/".join(more) or "0"
    if not database.isdecimal() or (kind == "sentinel") != bool(service):
        raise ValueError(shape)
    if kind == "cluster" and int(database):
        raise ValueError(f"{shape}: a Cluster has no database but 0")
    return service, database


def _read_hosts(text: str, port: int, shape: str) -> tuple[Place, ...]:
    hosts = tuple(_read_host(part.strip(), port, shape) for part in text.split(","))
    if len(hosts) > _MOST_HOSTS:
        raise ValueError(f"{shape}: at most {_MOST_HOSTS} of them")
    return hosts


def _read_host(text: str, port: int, shape: str) -> Place:
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise ValueError(shape)
        digits = rest[1:]
    else:
        host, _, digits = text.partition(":")
    if not host or (digits and not digits.isdecimal()) or not 0 < int(digits or port) < 65_536:
        raise ValueError(f"{shape}, got {text!r}")
    return host, int(digits or port)


def has_password(url: str) -> bool:
    """Tell whether a URL holds the servers' password."""
    _, _, identity, _ = _split(url)
    return bool(identity.partition(":")[2])


def add_password(url: str, password: str) -> str:
    """Return a URL that has no password with one, for the servers."""
    start, rest, identity, at = _split(url)
    user = identity.partition(":")[0] if at else ""
    return f"{start}{user}:{quote(password, '')}@{rest}"


def _split(url: str) -> tuple[str, str, str, str]:
    """Return SCHEME://, what follows the @ if there is one, what precedes it, and the @.

    One that is in the path or the options is none.
    """
    scheme, colons, rest = url.partition("://")
    end = min((at for at in (rest.find(one) for one in "/?") if at >= 0), default=len(rest))
    identity, at, hosts = rest[:end].rpartition("@")
    return scheme + colons, hosts + rest[end:], identity, at


def hide_secrets(url: str) -> str:
    """Return a URL as people may see it: without user, password and options."""
    scheme, colons, rest = url.partition("?")[0].partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{colons}{authority.rpartition('@')[2]}{slash}{path}"
