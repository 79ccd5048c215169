"""What a receiving session is told once, and what it tells its driver: settings and events.

Which events ask for an answer, and what comes when, stands at the top of ``server``.
"""

from dataclasses import dataclass, field

from relay.smtp.command import Mail, Rcpt


@dataclass(frozen=True)
class ServerSettings:
    """What all sessions of a listener have in common."""

    hostname: str
    max_message: int = 50 << 20
    max_recipients: int = 1000
    chunking: bool = True
    starttls: bool = False
    tls_required: bool = False
    requiretls: bool = False
    repair_line_endings: bool = False
    extensions: bytes = field(init=False)

    def __post_init__(self) -> None:
        lines = [
            "PIPELINING",
            f"SIZE {self.max_message}",
            "8BITMIME",
            "SMTPUTF8",
            "DSN",
            f"LIMITS RCPTMAX={self.max_recipients}",  # RFC 9422
        ]
        if self.chunking:
            lines.append("CHUNKING")
        text = "".join(f"250-{line}\r\n" for line in lines) + "250 ENHANCEDSTATUSCODES\r\n"
        object.__setattr__(self, "extensions", text.encode("ascii"))


@dataclass(frozen=True, slots=True)
class Data:
    """The content is next. ``accept`` sends 354 (or takes the first BDAT chunk)."""


@dataclass(frozen=True, slots=True)
class Content:
    """A piece of the message."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class EndOfMessage:
    """The message is complete. ``accept(text)`` answers ``250 2.0.0 text``."""


@dataclass(frozen=True, slots=True)
class Aborted:
    """The message that was coming in is void; the reply is the session's business."""

    reason: str


@dataclass(frozen=True, slots=True)
class StartTls:
    """Shake hands? ``accept`` answers 220; send that, do the handshake, then call ``tls_started``."""


@dataclass(frozen=True, slots=True)
class Closed:
    """Send what is due, then close. ``reason`` is for the log."""

    reason: str


Event = Mail | Rcpt | Data | Content | EndOfMessage | Aborted | StartTls | Closed
