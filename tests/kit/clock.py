"""A clock of our own for the gates' scripts: real scripts on a real server, in virtual time.

What gates decide depends on when they are asked. With the server's clock a test would have to sleep,
and no two runs would be the same; so here the scripts' one way to the time is another.
"""

from importlib import resources

import pytest

from relay.store.cluster import ClusterLink
from relay.store.keys import SHARDS, make_tag
from relay.store.link import Link
from relay.store.scripts import SCRIPTS, Script, make_scripts

_TIME = "  return tonumber(call('GET', TAG .. ':clock'))\n"
_WAKE = "local function wake(site)\n"
_GATES = {
    file.name.removesuffix(".lua")
    for file in (resources.files("relay.store") / "scripts" / "gate").iterdir()
}
START = 1_700_000_000_000


class Clock:
    """The time of all gates, ms since 1970, and how often they rang for a site."""

    def __init__(self, link: Link) -> None:
        self.now = START
        self._link = link

    async def set(self, now: float) -> None:
        """Let it be ``now``."""
        self.now = int(now)
        clocks = (f"{make_tag(shard)}:clock" for shard in range(SHARDS))
        for done in [self._link.send("SET", clock, self.now) for clock in clocks]:
            await done.wait()

    async def pass_by(self, seconds: float) -> None:
        """Let time pass."""
        await self.set(self.now + seconds * 1000)

    async def count_rings(self, shard: int) -> int:
        """Return how often a site of this shard was in the news so far."""
        return int(await self._link.call("GET", f"{make_tag(shard)}:rings") or 0)


def use_virtual_time(patch: pytest.MonkeyPatch) -> None:
    """Let the scripts of gates read a Clock."""
    for guarded, scripts in ((False, SCRIPTS), (True, ClusterLink.scripts)):
        for name, script in make_scripts(clock=_TIME, guarded=guarded).items():
            if name in _GATES:
                source = script.source.decode()
                found = source.replace(_WAKE, f"{_WAKE}  call('INCR', TAG .. ':rings')\n")
                patch.setitem(scripts, name, Script(name, found.encode()))
