"""Who is connected: limits of connections, handshakes and memory, and who makes room for whom.

A full house would be an easy thing to make: sessions cost those who open them nothing. So who comes
is let in as long as somebody can be told ``421 4.3.2`` without harm (``precedence.py`` says who), and
turned away only when all are at work. The same goes, among its own sessions, for a client address
that has as many as one may have. Nothing is lost by either: what has no 250 is still the sender's.
"""

import functools
import ipaddress
import math
from collections.abc import Callable

import trio

from relay.config.schema import Ingress
from relay.ingress.counts import Counts
from relay.ingress.handshakes import Handshakes
from relay.ingress.precedence import Guest, Precedence

# Above this share of the connections, sessions that have never had a message accepted have so many
# seconds for a command. RFC 5321 §4.5.3.2.7 wants five minutes; an honest client says EHLO at once.
_PRESSURE = 0.8
_HURRY = 10.0
# Sessions that were told to go hold their sockets until the words are out: two seconds at most, if
# their peers do not read. More than a share of the house, and some, are not told to at a time.
_LEAVING = 0.25
_SOME = 16


def find_most_sockets(ingress: Ingress) -> int:
    """Return how many connections can be open at a time: those who stay, and those who leave."""
    return math.ceil(ingress.max_connections * (1 + _LEAVING)) + _SOME


def find_room(ingress: Ingress, sockets: int) -> int:
    """Return for how many connections there is room with so many sockets, 1 at least."""
    fitting = int((sockets - _SOME) / (1 + _LEAVING))
    return max(1, min(fitting, ingress.max_connections))


@functools.lru_cache(maxsize=4096)
def find_house(client: str) -> str:
    """Return what counts as one client: an address, or the /64 of an IPv6 address.

    A /64 is what one host gets (RFC 6177 §2, RFC 4291 §2.5.4), with as many addresses as it likes.
    """
    address = ipaddress.ip_address(client)
    if isinstance(address, ipaddress.IPv4Address):
        return client
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


class Crowd:
    """All sessions of a process."""

    def __init__(
        self, ingress: Ingress, is_near: Callable[[str], bool], *, room: int | None = None
    ) -> None:
        """``is_near``: whether any tenant's networks hold an address.

        ``room``: how many may be here to stay, where that is less than ``max_connections``.
        """
        self.counts = Counts()
        self._ingress = ingress
        self._is_near = is_near
        self._room = ingress.max_connections if room is None else room
        self._handshakes = Handshakes(ingress.client_handshakes)
        self._all = Precedence()
        self._clients: dict[str, Precedence] = {}
        self._leaving: set[Guest] = set()
        self._held = 0  # octets of messages

    def __len__(self) -> int:
        """Return how many are here to stay."""
        return len(self._all)

    @property
    def is_full(self) -> bool:
        """True when who comes takes somebody's place."""
        return len(self._all) >= self._room

    # -- coming and going ---------------------------------------------------------------------

    def make_room(self, client: str) -> bool:
        """See to it that one more of this client fits; False: it must be turned away."""
        own = self._clients.get(find_house(client))
        if own is not None and len(own) >= self._ingress.client_connections:
            fits = self._displace_one_of(own)  # which makes room in the house, too
        elif self.is_full:
            fits = self._displace_one_of(self._all)
        else:
            fits = True
        if not fits:
            self.counts.turned_away += 1
        return fits

    def enter(self, guest: Guest) -> None:
        """A session begins, for which there is room."""
        self._all.add(guest, stranger=(stranger := not self._is_near(guest.client)))
        house = find_house(guest.client)
        own = self._clients.get(house)
        if own is None:
            own = self._clients[house] = Precedence()
        own.add(guest, stranger=stranger)

    def leave(self, guest: Guest) -> None:
        """A session has ended."""
        self._leaving.discard(guest)
        self._forget(guest)

    def _displace_one_of(self, sessions: Precedence) -> bool:
        if len(self._leaving) >= self._room * _LEAVING + _SOME:
            return False
        guest = sessions.choose(trio.current_time())
        if guest is None:
            return False
        idle = guest.is_idle
        if not guest.displace():
            return False
        self.counts.idle += idle
        self.counts.slow += not idle
        self._forget(guest)
        self._leaving.add(guest)
        return True

    def _forget(self, guest: Guest) -> None:
        self._all.remove(guest)
        house = find_house(guest.client)
        own = self._clients.get(house)
        if own is not None:
            own.remove(guest)
            if not len(own):
                del self._clients[house]

    def take_counts(self) -> Counts:
        """Return what has been counted, and begin anew."""
        counts, self.counts = self.counts, Counts()
        return counts

    # -- what sessions ask ---------------------------------------------------------------------

    def find_patience(self, session: Guest) -> float:
        """Return how many seconds a session has for its next command."""
        timeout = self._ingress.command_timeout
        if session.proven or len(self._all) <= self._room * _PRESSURE:
            return timeout
        return min(_HURRY, timeout)

    def may_shake_hands(self, client: str) -> bool:
        """Count a TLS handshake; False when this client address may have none now."""
        may = self._handshakes.take(find_house(client))
        self.counts.handshakes += not may
        return may

    def reserve(self, octets: int) -> bool:
        """Set aside memory for octets of a message; False when there is none left."""
        if self._held + octets > self._ingress.memory:
            self.counts.full += 1
            return False
        self._held += octets
        return True

    def release(self, octets: int) -> None:
        """Give back as much of what was reserved."""
        self._held -= octets
