"""Does the store keep what it acknowledges? Asked once at every start.

``250`` after DATA means "on disk". That holds when the append-only file is on and synced before
each reply. WAITAOF is no substitute: on servers with ``appendfsync everysec`` it was seen to
answer up to 0.9 s before the sync.
"""

from relay.errors import StartError, StoreError, StoreUnavailable
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

    Raises StartError when the server cannot be asked at all, or is too old.
    """
    try:
        version = await _read_version(link)
        reply = await link.call("CONFIG", "GET", "*append*")
        reply += await link.call("CONFIG", "GET", "maxmemory-policy")
    except StoreUnavailable as error:
        raise StartError(f"{error}; start it, or correct store.url") from error
    except StoreError as error:
        # Hosted servers often forbid CONFIG: then nobody can say.
        return [f"the server does not show its configuration ({error})"]
    if version < _LEAST_VERSION:
        shown = ".".join(map(str, version))
        raise StartError(f"the store is Redis {shown}; 6.2 or newer is needed (or Valkey)")
    settings = {
        key.decode(): value.decode() for key, value in zip(reply[::2], reply[1::2], strict=True)
    }
    return [
        f"{name} is {settings.get(name, 'unknown')!r}, expected {wanted!r}"
        for name, wanted in _WANTED.items()
        if settings.get(name) != wanted
    ]


async def require_durability(link: Link, *, level: str) -> list[str]:
    """Raise StartError on a server that can forget, or with ``level`` "warn" return why."""
    weaknesses = await find_weaknesses(link)
    if weaknesses and level == "require":
        raise StartError(
            "the store can lose acknowledged mail: "
            + "; ".join(weaknesses)
            + '. Set them with CONFIG SET, or say store.durability = "warn" if you accept that'
        )
    return weaknesses


async def _read_version(link: Link) -> tuple[int, ...]:
    info = (await link.call("INFO", "server")).decode()
    for line in info.splitlines():
        if line.startswith("redis_version:"):
            return tuple(int(n) for n in line.partition(":")[2].split(".")[:2])
    return (0,)
