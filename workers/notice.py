"""The notice that tells a sender what became of a message: RFC 3464, in a report of RFC 6522.

Three kinds, after the Action field (RFC 3464 §2.3.3): *failed*, *delayed*, and *relayed*: taken by a
host that does not know what a notice is, so that nothing more will be heard.

Three parts: words for people, fields for programs, and the headers of the message (or all of it,
when the sender asked and it is small). Written as bytes: everything in it that others have
written (replies, addresses, the message itself) passes through one of the functions of ``quote``.

With internationalised addresses the parts are those of RFC 6533, in UTF-8.
"""

import enum
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from relay.model import Delivery, Disposition, Envelope, Outcome, Recipient
from workers.quote import (
    clean,
    clean_utf8,
    decode_unitext,
    decode_xtext,
    fold,
    format_date,
    keep_ascii,
    limit,
)

MAX_WHOLE = 64 * 1024  # of a message that is returned in full
MAX_HEADERS = 128 * 1024  # of the headers that are returned otherwise
MAX_LINE = 998  # RFC 5322 §2.1.1

Result = tuple[Recipient, Outcome]


class Kind(enum.Enum):
    """What a notice is about; the value is the Action field."""

    FAILED = "failed"
    DELAYED = "delayed"
    RELAYED = "relayed"


@dataclass(frozen=True, slots=True)
class _Case:
    """What the parts of one notice have in common."""

    kind: Kind
    delivery: Delivery
    hostname: str
    now: float
    remote: str
    until: float
    is_global: bool


_SUBJECTS = {Kind.FAILED: b"Failure", Kind.DELAYED: b"Delay", Kind.RELAYED: b"Relay"}
_NOTIFY = {Kind.FAILED: b"FAILURE", Kind.DELAYED: b"DELAY", Kind.RELAYED: b"SUCCESS"}


def make_notice(
    kind: Kind,
    delivery: Delivery,
    results: Sequence[Result],
    *,
    original: bytes,
    hostname: str,
    message_id: str,
    now: float,
    remote: str,
    until: float = 0.0,
) -> tuple[Envelope, bytes] | None:
    """Return the notice about ``results`` to the sender, or None when nobody is to be told.

    A failure whose outcome is still "deferred" is one whose time is up; its outcome is that of
    the last attempt. ``original``: the stored message, or as much of its head as is at hand.
    ``hostname``, ``message_id``: ours, and the notice's. ``remote``: name of the host that gave
    the answers, "" if there was none. ``now`` and ``until`` (when a delayed message's time will
    be over): seconds since 1970.

    None: the sender is null (RFC 5321 §6.1: no notice about a notice), or no recipient has a
    NOTIFY parameter that lets us.
    """
    told = [result for result in results if is_wanted(kind, result[0])]
    envelope = delivery.envelope
    if not envelope.sender or delivery.notice or not told:
        return None
    # RFC 6533 §3: the global types are for what the others cannot hold.
    addresses = [envelope.sender, *(recipient.address for recipient, _ in told)]
    is_global = envelope.smtputf8 or not all(address.isascii() for address in addresses)
    case = _Case(kind, delivery, hostname, now, remote, until, is_global)
    parts = (
        _write_words(case, told),
        _write_status(case, told),
        _write_original(case, original),
    )
    content = _write_headers(case, original, message_id) + _join(parts, message_id)
    notice = Envelope(
        sender=b"",
        recipients=(Recipient(envelope.sender),),
        body=b"" if content.isascii() else b"8BITMIME",
        # RFC 6531 §3.4: for addresses and header fields. What is inside the parts only needs
        # 8BITMIME (RFC 6532 §3.7), and the fewer demands, the surer it arrives.
        smtputf8=not envelope.sender.isascii(),
        # RFC 8689 §5: its headers are as secret as the message's. Where that cannot be kept to, the
        # notice goes all the same: ``Envelope.tls_demand``.
        tls="required" if envelope.tls == "required" else "",
    )
    return notice, content


def is_wanted(kind: Kind, recipient: Recipient) -> bool:
    """Tell whether the sender wants a notice of this kind about a recipient.

    RFC 3461 §4.1: without NOTIFY it hears of failures, and may hear of delays; of success only if
    it says so. NEVER stands alone, and names none of the three.
    """
    if not recipient.notify:
        return kind is not Kind.RELAYED
    return _NOTIFY[kind] in recipient.notify.upper().split(b",")


# -- The frame


def _write_headers(case: _Case, original: bytes, message_id: str) -> bytes:
    hostname = keep_ascii(case.hostname).encode()
    lines = [
        b"From: Mail Delivery System <MAILER-DAEMON@%b>" % hostname,
        b"To: <%b>" % clean_utf8(case.delivery.envelope.sender),
        b"Subject: Delivery Status Notification (%b)" % _SUBJECTS[case.kind],
        b"Date: " + format_date(case.now),
        b"Message-ID: <%b@%b>" % (keep_ascii(message_id).encode(), hostname),
        b"Auto-Submitted: auto-replied",  # RFC 3834 §5
    ]
    if reference := _find_message_id(original):
        lines += [b"In-Reply-To: " + reference, b"References: " + reference]
    return b"\r\n".join(lines) + b"\r\n"


def _join(parts: Sequence[bytes], message_id: str) -> bytes:
    """Put the parts behind each other; RFC 2046 §5.1.1 for the boundary, RFC 6522 §3."""
    boundary = base = b"=_" + re.sub(rb"[^0-9A-Za-z]", b"", message_id.encode())[:40]
    number = 0
    # Nobody can know the id beforehand; but whoever can must not be able to end a part.
    while any(boundary in part for part in parts):
        number += 1
        boundary = b"%b.%d" % (base, number)
    # RFC 2045 §6.4: a multipart says 8bit when a part does.
    encoding = b"7bit" if all(part.isascii() for part in parts) else b"8bit"
    head = (
        b"MIME-Version: 1.0\r\n"
        b"Content-Type: multipart/report; report-type=delivery-status;\r\n"
        b'\tboundary="%b"\r\n'
        b"Content-Transfer-Encoding: %b\r\n"
        b"\r\n"
    ) % (boundary, encoding)
    body = b"".join(b"--%b\r\n%b\r\n" % (boundary, part) for part in parts)
    return head + body + b"--%b--\r\n" % boundary


def _part(kind: bytes, content: bytes) -> bytes:
    encoding = b"7bit" if content.isascii() else b"8bit"
    return b"Content-Type: %b\r\nContent-Transfer-Encoding: %b\r\n\r\n%b" % (
        kind,
        encoding,
        content,
    )


# -- First part: words


_SAID = {
    Kind.FAILED: (
        "Your message could not be delivered to the recipients below. It will not be",
        "tried again. If you cannot tell from the reason what to do, pass this notice on",
        "to your postmaster.",
    ),
    Kind.DELAYED: (
        "This is a warning only: you need not send your message again.",
        "",
        "It could not be delivered to the recipients below yet. It will be tried until",
        "{until}; if that fails, you will be told.",
    ),
    Kind.RELAYED: (
        "You asked to be told when your message has been delivered. It was taken by the",
        "mail servers of the recipients below, which do not send such notices: you will",
        "hear no more of it unless they return it.",
    ),
}


def _write_words(case: _Case, results: Sequence[Result]) -> bytes:
    until = format_date(case.until).decode()
    said = [line.format(until=until) for line in _SAID[case.kind]]
    lines = [f"This is the mail gateway at {keep_ascii(case.hostname)}.", "", *said, ""]
    text = "\r\n".join(lines).encode() + b"\r\n"
    for recipient, outcome in results:
        words = "\r\n".join(_explain(case, outcome)).encode()
        text += b"<%b>\r\n%b\r\n\r\n" % (clean_utf8(recipient.address), words)
    charset = b"us-ascii" if text.isascii() else b"utf-8"
    return _part(b"text/plain; charset=" + charset, text)


def _explain(case: _Case, outcome: Outcome) -> Iterator[str]:
    """Yield indented lines that say what happened to one recipient."""
    waited = _format_duration(case.now - case.delivery.accepted)
    if case.kind is Kind.RELAYED:
        yield "    was accepted by the recipient's mail server:"
    elif case.kind is Kind.DELAYED:
        yield f"    has waited for {waited}; the last attempt ended so:"
    elif outcome.disposition is Disposition.DEFERRED:
        yield f"    could not be delivered for {waited}; the last attempt ended so:"
    elif outcome.code and outcome.command:
        yield f"    was refused by the recipient's mail server in answer to {_name(outcome)}:"
    else:
        yield "    cannot be delivered:"
    answer = limit(_quote(outcome))
    yield from textwrap.wrap(
        answer or "no reason was given",
        76,
        initial_indent="        ",
        subsequent_indent="        ",
        break_on_hyphens=False,
    )


def _name(outcome: Outcome) -> str:
    """Say which command was answered, in words where the command is a dot."""
    if outcome.command in (".", "BDAT"):
        return "the message itself"
    return f"the {keep_ascii(outcome.command)} command"


def _quote(outcome: Outcome) -> str:
    """Return the reply as it was: a reply's text begins with the status, if it has one."""
    code = str(outcome.code) if outcome.code else ""
    status = "" if outcome.text.startswith(outcome.status) else outcome.status
    return " ".join(filter(None, (code, status, outcome.text)))


def _format_duration(seconds: float) -> str:
    """Return "5 days", "4 hours", "1 minute": the largest unit of which there is one, rounded."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = round(seconds / length)
            return f"{count} {unit}" if count == 1 else f"{count} {unit}s"
    return "less than a minute"


# -- Second part: fields


def _write_status(case: _Case, results: Sequence[Result]) -> bytes:
    """RFC 3464 §2: a group of fields about the message, then one about each recipient."""
    fields = [b"Reporting-MTA: dns; " + keep_ascii(case.hostname).encode()]
    if envid := decode_xtext(case.delivery.envelope.envid):
        fields.append(b"Original-Envelope-Id: " + envid)
    fields.append(b"Arrival-Date: " + format_date(case.delivery.accepted))
    groups = [fields]
    groups += [list(_describe(case, recipient, outcome)) for recipient, outcome in results]
    kind = b"message/global-delivery-status" if case.is_global else b"message/delivery-status"
    # RFC 3464 §2.1.1: an empty line before each group.
    return _part(kind, b"".join(b"\r\n".join(group) + b"\r\n\r\n" for group in groups))


def _describe(case: _Case, recipient: Recipient, outcome: Outcome) -> Iterator[bytes]:
    """Yield the fields about one recipient, RFC 3464 §2.3."""
    if original := _read_orcpt(recipient.orcpt, is_global=case.is_global):
        yield b"Original-Recipient: " + original
    kind = b"rfc822" if recipient.address.isascii() else b"utf-8"  # RFC 6533 §3
    yield b"Final-Recipient: %b; %b" % (kind, clean_utf8(recipient.address))
    yield b"Action: " + case.kind.value.encode()
    yield b"Status: " + _find_status(case.kind, outcome)
    # RFC 3464 §2.3.5, §2.3.6: only for what a remote host has said.
    if outcome.code and outcome.command:
        if case.remote:
            yield b"Remote-MTA: dns; " + limit(case.remote, 255).encode()
        yield fold("Diagnostic-Code: smtp; " + limit(_quote(outcome)))
    elif outcome.text:
        yield fold("Diagnostic-Code: x-outgate; " + limit(outcome.text))
    yield b"Last-Attempt-Date: " + format_date(case.now)
    if case.kind is Kind.DELAYED:  # RFC 3464 §2.3.9: there, and nowhere else
        yield b"Will-Retry-Until: " + format_date(case.until)


# The classes that a status can have (RFC 3463 §2), and what stands for one that is missing.
_CLASSES = {
    Kind.FAILED: ("45", b"5.0.0"),
    Kind.DELAYED: ("4", b"4.0.0"),
    Kind.RELAYED: ("2", b"2.0.0"),
}


def _find_status(kind: Kind, outcome: Outcome) -> bytes:
    """Return the status code: the last answer's, or that the time was over."""
    if kind is Kind.FAILED and outcome.disposition is Disposition.DEFERRED:
        return b"4.4.7"  # RFC 3463 §3.5: delivery time expired; the diagnostic has the cause
    classes, otherwise = _CLASSES[kind]
    if re.fullmatch(rf"[{classes}]\.[0-9]{{1,3}}\.[0-9]{{1,3}}", outcome.status):
        return outcome.status.encode()
    return otherwise


def _read_orcpt(orcpt: bytes, *, is_global: bool) -> bytes:
    """Return ORCPT as a field's value, or b"" when there is none that makes sense."""
    kind, semicolon, address = orcpt.partition(b";")
    decoded = decode_xtext(address)
    if not semicolon or not decoded or not re.fullmatch(rb"[A-Za-z0-9-]{1,32}", kind):
        return b""
    if is_global and kind.lower() == b"utf-8":
        decoded = decode_unitext(decoded)
    return kind + b";" + decoded


# -- Third part: the message


def _write_original(case: _Case, original: bytes) -> bytes:
    # RFC 3461 §4.3: the whole message only for RET=FULL, and only with bad news; we may still send
    # the headers.
    ret, tls = case.delivery.envelope.ret, case.delivery.envelope.tls
    is_asked = case.kind is Kind.FAILED and ret.upper() == b"FULL"
    is_asked &= tls != "required"  # RFC 8689 §5: as if RET=HDRS were there
    is_global = case.is_global
    if is_asked and len(original) >= case.delivery.size and _is_sendable(original):
        return _part(b"message/global" if is_global else b"message/rfc822", original)
    kind = b"message/global-headers" if is_global else b"text/rfc822-headers"
    quoted = clean_utf8 if is_global else clean
    lines = (quoted(line.replace(b"\t", b" "), MAX_LINE) for line in _read_headers(original))
    return _part(kind, b"".join(line + b"\r\n" for line in lines if line) or b"\r\n")


def _is_sendable(message: bytes) -> bool:
    """Tell whether a message can go into a part as it is."""
    lines = message.split(b"\r\n")
    return (
        len(message) <= MAX_WHOLE
        and all(len(line) <= MAX_LINE for line in lines)
        and not any(b"\r" in line or b"\n" in line or b"\0" in line for line in lines)
    )


def _read_headers(message: bytes) -> list[bytes]:
    """Return the lines of the header section, as far as they are there, as they came."""
    if message.startswith(b"\r\n"):
        return []
    head, end, _ = message[:MAX_HEADERS].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    return lines if end else lines[:-1]  # the last is cut off somewhere, or empty


_MESSAGE_ID = re.compile(
    # RFC 5322 §3.6.4, without quoting and comments: nothing that needs care to repeat.
    rb"^message-id:[ \t]*(?:\n[ \t]+)?(<[!-;=?A-~]{1,120}@[!-;=?A-~]{1,120}>)[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)


def _find_message_id(message: bytes) -> bytes:
    found = _MESSAGE_ID.search(b"\n".join(_read_headers(message)))
    return found[1] if found else b""
