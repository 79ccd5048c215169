"""Asking whoever publishes a set what its networks are."""

import trio

from relay.config.units import Network
from relay.errors import OutgateError
from relay.ingress.networks.blocks import merge
from relay.ingress.networks.definition import Definition
from relay.ingress.networks.ranges import read_ranges
from relay.ingress.networks.spf import Walked, walk
from relay.net.resolver import Resolver

# A walk may ask eleven names, each for as long as dns.timeout.
LOOK_FOR = 60.0


class SetUnknown(OutgateError):
    """Nobody could be asked, or no answer came in time."""


async def look_up(definition: Definition, resolver: Resolver | None, *, ca_file: str) -> Walked:
    """Return the networks of a set as they are published now, in their shortest form.

    ``resolver``: None where there is no name server. ``ca_file``: authorities instead of the
    system's. Raises SetUnknown, SpfUnusable, RangesUnusable, all with texts for people.
    """
    if definition.is_fixed:
        return Walked(definition.seed)
    with trio.move_on_after(LOOK_FOR):
        if definition.json:
            networks = await read_ranges(definition.json, resolver, ca_file=ca_file)
            return Walked(await _merge(networks))
        if resolver is None:
            raise SetUnknown(f"{definition.spf} cannot be looked up: there is no name server")
        found = await walk(resolver, definition.spf)
        return Walked(await _merge(found.networks), found.notes)
    raise SetUnknown(f"{definition.origin}: no answer within {LOOK_FOR:g} s")


async def _merge(networks: tuple[Network, ...]) -> tuple[Network, ...]:
    # A thread: thousands of networks take a quarter of a second.
    return await trio.to_thread.run_sync(merge, networks)
