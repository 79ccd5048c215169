"""Bounces that come as mail, after a host had taken the message: delivery status (RFC 3464, 6522)."""

import re
from dataclasses import dataclass

from relay.feedback.pieces import Pieces, read_fields, show

_REPORT_OCTETS = 256 * 1024
_MOST = 100  # recipients of one report
_STATUS = re.compile(rb"[245]\.\d{1,3}\.\d{1,3}")
# RFC 3464 §2.3.3; with what some write instead.
_ACTIONS = frozenset({"failed", "delayed", "delivered", "relayed", "expanded"})


@dataclass(frozen=True, slots=True)
class Failure:
    """What a report says of one recipient."""

    action: str  # "failed", "delayed", "delivered", "relayed", "expanded", or "" for nonsense
    status: str  # "5.1.1", or ""
    recipients: tuple[str, ...]  # by its names: as it was addressed first, and in the end
    text: str  # what the host said


@dataclass(frozen=True, slots=True)
class Bounce:
    """A report, recipient by recipient."""

    failures: tuple[Failure, ...]
    reporter: str = ""  # the host that gave up
    original: bytes = b""  # the head of the message that it is about


def read_bounce(pieces: Pieces, original: bytes) -> Bounce | None:
    """Return the bounce that a message is; None when it is none. ``original``: the head in it."""
    part = pieces.find("message/delivery-status", "message/global-delivery-status")
    if part is None:
        return None
    # RFC 3464 §2.1: fields of the message, then of each recipient, with an empty line between.
    content = pieces.read(part, _REPORT_OCTETS).lstrip(b"\r\n")
    groups = [read_fields(group) for group in content.split(b"\r\n\r\n", _MOST + 1)[: _MOST + 1]]
    failures = tuple(_read_failure(group) for group in groups if _is_about_recipient(group))
    reporter = groups[0].get("reporting-mta", [b""])[0]
    return Bounce(failures[:_MOST], show(_cut_type(reporter)), original)


def _is_about_recipient(group: dict[str, list[bytes]]) -> bool:
    return "final-recipient" in group or "original-recipient" in group


def _read_failure(group: dict[str, list[bytes]]) -> Failure:
    def first(name: str) -> bytes:
        return group.get(name, [b""])[0]

    action = show(first("action")).lower()
    status = _STATUS.match(first("status"))
    names = [_cut_type(first(name)) for name in ("original-recipient", "final-recipient")]
    return Failure(
        action if action in _ACTIONS else "",
        show(status[0]) if status else "",
        tuple(
            dict.fromkeys(show(name).removeprefix("<").removesuffix(">") for name in names if name)
        ),
        show(_cut_type(first("diagnostic-code"))),
    )


def _cut_type(value: bytes) -> bytes:
    """Take off "rfc822;" or "smtp;" (RFC 3464 §2.1.2), whoever left it away."""
    kind, semicolon, rest = value.partition(b";")
    return rest.strip() if semicolon and kind.strip().replace(b"-", b"").isalnum() else value
