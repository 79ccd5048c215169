"""What a provider counts of one client address. Everything here really happened to somebody."""

from dataclasses import dataclass, fields


@dataclass(slots=True)
class Books:
    """Counts since the start. An attempt is one MAIL, or one connection that was refused."""

    connections: int = 0  # taken
    refused_connections: int = 0  # too many at once
    mails: int = 0  # MAIL that was answered 250
    accepted: int = 0  # messages
    delivered: int = 0  # recipients of these
    throttled: int = 0  # attempts: too fast, or within a penalty
    over_allowance: int = 0  # attempts: the day's messages were used up
    over_connection: int = 0  # attempts: this connection has had its messages
    blocked: int = 0  # attempts under a block
    without_tls: int = 0  # attempts: TLS is required
    greylisted: int = 0  # recipients
    unknown: int = 0  # recipients
    too_many: int = 0  # recipients above what one message may have
    too_large: int = 0  # messages
    spam: int = 0  # messages
    complaints: int = 0
    penalties: int = 0  # that began, or began anew
    blocks: int = 0  # that the address brought on itself

    def add(self, other: "Books") -> None:
        """Add other counts to these."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))
