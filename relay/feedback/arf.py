"""Complaints: the Abuse Reporting Format (RFC 5965, 6591, 6650), and what Outlook sends instead.

ARF is a multipart/report of three parts: words for people, message/feedback-report with fields for
programs, and the message that it is about, or its head. Who wants to keep the recipient to himself
blacks it out (RFC 6590). Outlook's Junk Mail Reporting Program attaches the message to an empty one, with
the recipient in a field on top of it.
"""

import ipaddress
from dataclasses import dataclass

from relay.feedback.pieces import Pieces, read_fields, show

# RFC 5965 §7.3 and RFC 6430, 6591 registered these; "opt-out" some write who wrote ARF before.
KINDS = frozenset({"abuse", "fraud", "virus", "opt-out", "not-spam", "auth-failure", "other"})
# Of those, the ones by which somebody complains. That a signature does not hold is none, nor "not spam".
COMPLAINTS = frozenset({"abuse", "fraud", "virus", "opt-out"})

_REPORT_OCTETS = 64 * 1024
_ADDRESSES = 10  # of Original-Rcpt-To, which may be there several times
_ORIGINALS = ("message/rfc822", "text/rfc822-headers", "message/global", "message/global-headers",
              "message/rfc822-headers")  # fmt: skip
_OUTLOOK = "x-hmxmroriginalrecipient"


@dataclass(frozen=True, slots=True)
class Abuse:
    """A complaint, as its sender tells it. What it does not say is empty."""

    kind: str  # one of KINDS
    user_agent: str = ""
    mail_from: str = ""
    recipients: tuple[str, ...] = ()
    arrived: str = ""
    source_ip: str = ""  # an address, in its shortest form
    reported_domain: str = ""
    original: bytes = b""  # the head of the message that it is about


def read_abuse(pieces: Pieces) -> Abuse | None:
    """Return the complaint that a message is; None when it is none."""
    report = pieces.find("message/feedback-report")
    if report is None:
        return _read_outlook(pieces)
    found = read_fields(pieces.read(report, _REPORT_OCTETS).lstrip(b"\r\n"))

    def first(name: str) -> str:
        return show(found.get(name, [b""])[0])

    kind = first("feedback-type").lower()
    return Abuse(
        # RFC 5965 §3.1: of a type that is not known, as much is to be understood as can be.
        kind=kind if kind in KINDS else "other",
        user_agent=first("user-agent"),
        mail_from=_strip(first("original-mail-from")),
        recipients=tuple(
            _strip(show(value)) for value in found.get("original-rcpt-to", [])[:_ADDRESSES]
        ),
        arrived=first("arrival-date") or first("received-date"),
        source_ip=_read_address(first("source-ip")),
        reported_domain=first("reported-domain"),
        original=pieces.read_head(pieces.find(*_ORIGINALS)),
    )


def _read_outlook(pieces: Pieces) -> Abuse | None:
    """Any message may have another attached; only that field makes it a complaint."""
    if pieces.report_type:
        return None
    original = pieces.read_head(pieces.find("message/rfc822"))
    if _OUTLOOK.encode() not in original.lower():
        return None
    recipients = read_fields(original).get(_OUTLOOK, [])
    if not recipients:
        return None
    return Abuse("abuse", recipients=(_strip(show(recipients[0])),), original=original)


def read_original(pieces: Pieces) -> bytes:
    """Return the head of the message that a report is about."""
    return pieces.read_head(pieces.find(*_ORIGINALS))


def _strip(address: str) -> str:
    return address.strip().removeprefix("<").removesuffix(">")


def _read_address(text: str) -> str:
    text = text.strip().strip("[]").removeprefix("IPv6:")
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""
