"""Who is the master? Asked of Sentinels, at every new connection.

One Sentinel may have been cut off from the others and still name the old master, so the first answer
is not enough: as many are asked as make a majority, and of what they say the newest counts (each
fail-over has a higher epoch). When fewer can be reached, what those say has to do.

A master that was cut off itself may not know yet that it was deposed, and says ROLE master in good
faith. What it acknowledges then is lost when it comes back: only ``store.replicas``, or
``min-replicas-to-write`` on the server, stand against that (DESIGN.md, More than one server).
"""

from typing import Any

import redis

from relay.config.storeurl import Place, StoreAddress, write_place
from relay.store.wire import make_pool

_PATIENCE = 1.0  # seconds for one Sentinel, so that one that hangs costs no more


def find_master(address: StoreAddress, timeout: float) -> Place:
    """Return where the master is; blocks. Raises redis.ConnectionError when nobody can say."""
    found: list[tuple[int, Place]] = []
    reasons: list[str] = []
    heard = 0
    for place in address.hosts:
        try:
            state = _ask(address.make_sentinel_url(place), address.service, timeout)
        except (redis.RedisError, OSError) as error:
            reasons.append(f"{write_place(place)}: {error}")
            continue
        heard += 1
        if state["is_sdown"] or state["is_odown"]:
            reasons.append(f"{write_place(place)}: the master is down, and there is no other yet")
        else:
            found.append((int(state["config-epoch"]), (str(state["ip"]), int(state["port"]))))
        if heard > len(address.hosts) // 2:
            break
    if not found:
        raise redis.ConnectionError(
            f"no Sentinel knows a master {address.service!r} ({'; '.join(reasons)})"
        )
    return max(found)[1]


def _ask(url: str, service: str, timeout: float) -> dict[str, Any]:
    pool = make_pool(url, min(timeout, _PATIENCE))
    with redis.Redis(connection_pool=pool) as sentinel:
        try:
            state: dict[str, Any] = sentinel.sentinel_master(service)
        finally:
            pool.disconnect()
    return state
