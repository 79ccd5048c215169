"""Does the store keep what it acknowledges? Asked once at every start.

``250`` after DATA means "on disk". That holds when the append-only file is on and synced before
each reply. WAITAOF is no substitute: on servers with ``appendfsync everysec`` it was seen to
answer up to 0.9 s before the sync.

Where there are replicas, a fail-over can lose what none of them had; how much depends on
``store.replicas`` here and ``min-replicas-to-write`` there. That is told, and does not stop a start.
"""

import contextlib
from collections.abc import Iterator, Sequence

from relay.config.storeurl import read_store_url
from relay.errors import StartError, StoreError, StoreUnavailable
from relay.store.gather import together
from relay.store.link import Link

_WANTED = {
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
    "maxmemory-policy": "noeviction",
}
_LEAST_VERSION = (6, 2)


async def find_weaknesses(link: Link) -> list[str]:
    """Return what stands against the promise, a line each; an empty list is a durable store.

    Every master is asked; in a Cluster a line begins with whose it is. Raises StartError when a server
    cannot be asked at all, or is too old.
    """
    try:
        told = await together(
            servers=lambda: link.call_each("INFO", "server"),
            appends=lambda: link.call_each("CONFIG", "GET", "*append*"),
            policies=lambda: link.call_each("CONFIG", "GET", "maxmemory-policy"),
        )
        for name, info in told["servers"]:
            _require_version(name, info)
    except StoreUnavailable as error:
        raise StartError(f"{error}; start it, or correct store.url") from error
    except StoreError as error:
        # Hosted servers often forbid CONFIG: then nobody can say.
        return [f"the server does not show its configuration ({error})"]
    policies = dict(told["policies"])
    return [
        f"{_prefix(name)}{setting} is {settings.get(setting, 'unknown')!r}, expected {wanted!r}"
        for name, flat in told["appends"]
        for settings in [_pair([*flat, *policies.get(name, [])])]
        for setting, wanted in _WANTED.items()
        if settings.get(setting) != wanted
    ]


async def find_risks(link: Link, replicas: int) -> list[str]:
    """Return what a fail-over can lose, and what would narrow it, a line each.

    For a store that has replicas, or may get them (Sentinels, a Cluster); no start is refused for it.
    ``replicas``: ``store.replicas``. Raises StoreUnavailable, StoreError.
    """
    several = read_store_url(link.url).kind != "plain"
    asked = await link.call_each("CONFIG", "GET", "min-replicas-*")
    settings = {name: _pair(flat) for name, flat in asked}
    risks = []
    for name, info in await link.call_each("INFO", "replication"):
        there = int(_read_info(info).get("connected_slaves", 0))
        if there or several or replicas:
            least = int(settings.get(name, {}).get("min-replicas-to-write", 0))
            lag = int(settings.get(name, {}).get("min-replicas-max-lag", 0))
            risks += [_prefix(name) + risk for risk in _judge(replicas, there, least, lag)]
    return risks


def _judge(replicas: int, there: int, least: int, lag: int) -> Iterator[str]:
    if there < replicas:
        yield (
            f"there are {there} replicas of the {replicas} that store.replicas asks for: "
            "nothing can be acknowledged until there are"
        )
    if replicas:
        if replicas < there:
            yield (
                f"what {replicas} of {there} replicas have is acknowledged: nothing is lost when a "
                "master dies; of one that is cut off together with a replica, and in a fail-over "
                f"that is asked for, it can be (store.replicas = {there}: never, but none may be away)"
            )
        if not least:
            yield (
                "min-replicas-to-write is 0: a master that was cut off goes on changing what nobody "
                f"will know of, though it acknowledges none of it; set it to {replicas}, with "
                "min-replicas-max-lag 10"
            )
    elif least and lag:
        yield (
            f"a fail-over can forget what was acknowledged in the last moments, of a master that was "
            f"cut off up to {lag} s of it (min-replicas-max-lag): store.replicas = 1 waits for a replica"
        )
    else:
        yield (
            "a fail-over forgets what the old master acknowledged and no replica had: the last "
            "moments, and of a master that was cut off all until it is deposed. store.replicas = 1 "
            "waits for a replica; min-replicas-to-write 1 with min-replicas-max-lag 10 narrows it"
        )


async def require_durability(link: Link, *, level: str) -> list[str]:
    """Raise StartError on a server that can forget, or with ``level`` "warn" return why.

    What only a fail-over can lose is returned with any ``level``.
    """
    weaknesses = await find_weaknesses(link)
    if weaknesses and level == "require":
        raise StartError(
            "the store can lose acknowledged mail: "
            + "; ".join(weaknesses)
            + '. Set them with CONFIG SET, or say store.durability = "warn" if you accept that'
        )
    with contextlib.suppress(StoreUnavailable, StoreError):  # then nobody can say
        weaknesses += await find_risks(link, link.replicas)
    return weaknesses


def _require_version(name: str, info: bytes) -> None:
    text = _read_info(info).get("redis_version", "0")
    version = tuple(int(n) for n in text.split(".")[:2])
    if version < _LEAST_VERSION:
        shown = ".".join(map(str, version))
        raise StartError(
            f"{_prefix(name)}the store is Redis {shown}; 6.2 or newer is needed (or Valkey)"
        )


def _read_info(info: bytes) -> dict[str, str]:
    return dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)


def _pair(flat: Sequence[bytes]) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in zip(flat[::2], flat[1::2], strict=True)}


def _prefix(name: str) -> str:
    return f"{name}: " if name else ""
