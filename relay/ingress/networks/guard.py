"""May new networks take the place of those that are in use?

Whoever can write into the zone of a set, or breaks it, must not be able to let everybody in or to
shut everybody out between two looks. Pure: no network, no clock.
"""

from collections.abc import Sequence

from relay.config.units import Network
from relay.ingress.networks.blocks import V4, V6, merge

# No owner of a set that somebody relays for has more than this in one block.
WIDEST = {4: 8, 6: 19}  # prefix lengths
# A set may grow to so many times its size at once, and shrink to such a part.
FACTOR = 4
_WORDS = {4: "IPv4 addresses", 6: "IPv6 networks of /64"}


def find_fault(networks: Sequence[Network]) -> str:
    """Return what makes networks unfit whatever there was before, "" for nothing.

    No operator can accept such a set: nobody means it.
    """
    if not networks:
        return "there would be no networks at all"
    # Merged: two halves of everything are everything.
    for network in merge(networks):
        if network.prefixlen < WIDEST[network.version]:
            least = WIDEST[network.version]
            return f"{network} is too wide: expected /{least} or longer"
    return ""


def find_objection(old: Sequence[Network], new: Sequence[Network]) -> str:
    """Return why ``new`` may not take the place of ``old`` without an operator; "": it may.

    Without old networks there is nothing to compare with. IPv4 and IPv6 are counted apart, or the
    one's immense numbers would hide what becomes of the other.
    """
    if fault := find_fault(new):
        return fault
    if not old:
        return ""
    before, after = count_addresses(old), count_addresses(new)
    for version, words in _WORDS.items():
        was, would_be = before[version], after[version]
        if would_be > was * FACTOR:
            return f"{would_be:,} {words} instead of {was:,}: more than {FACTOR} times as many"
        if would_be * FACTOR < was:
            return f"{would_be:,} {words} instead of {was:,}: less than 1/{FACTOR} of them"
    return ""


def count_addresses(networks: Sequence[Network]) -> dict[int, int]:
    """Return IP version -> how many addresses the networks hold; of IPv6, how many /64s.

    A /64 that they hold a part of counts as one.
    """
    short = merge(networks)
    wide = merge(
        one.supernet(new_prefix=64) if one.prefixlen > 64 else one
        for one in short
        if isinstance(one, V6)
    )
    return {
        4: sum(one.num_addresses for one in short if isinstance(one, V4)),
        6: sum(1 << (64 - one.prefixlen) for one in wide),
    }
