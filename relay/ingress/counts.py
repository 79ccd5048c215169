"""What the door has had to do, counted, and told in words that say which setting it was."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(slots=True)
class Counts:
    """What happened at the door in some time."""

    turned_away: int = 0  # connections
    idle: int = 0  # sessions closed to make room
    slow: int = 0  # the same, in a transaction that did not get on
    handshakes: int = 0  # refused
    full: int = 0  # times that memory was refused
    headers: int = 0  # connections from balancers that began with no PROXY protocol header

    def tell(self, period: str) -> Iterator[str]:
        """Yield a line for each kind of trouble. ``period``: "minute"."""
        made_room = [f"{self.idle} idle ones closed"] if self.idle else []
        if self.slow:
            made_room.append(f"{self.slow} slow ones closed")
        if self.turned_away or made_room:
            what = ", ".join([f"{self.turned_away} turned away", *made_room])
            yield (
                f"too many connections: {what} in the last {period} "
                "(ingress.max_connections, ingress.client_connections)"
            )
        if self.handshakes:
            yield (
                f"too many TLS handshakes: {self.handshakes} refused in the last {period} "
                "(ingress.client_handshakes)"
            )
        if self.full:
            yield (
                f"too much mail on its way in: senders were asked {self.full} times in the last "
                f"{period} to wait (ingress.memory)"
            )
        if self.headers:
            yield (
                f"{self.headers} connections from ingress.proxies closed in the last {period}: they "
                "did not begin with a PROXY protocol header; does the balancer send one?"
            )
