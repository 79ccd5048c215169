"""The notice that tells a sender what could not be delivered: RFC 3464, in a report of RFC 6522.

Three parts: words for people, fields for programs, and the headers of the message (or all of it,
when the sender asked and it is small). Written as bytes: everything in it that others have
written (replies, addresses, the message itself) passes through one of the functions under
"What others wrote", after which it holds no line end, no NUL and nothing longer than a line.

With internationalised addresses the parts are those of RFC 6533, in UTF-8.
"""

import re
import textwrap
import time
from collections.abc import Iterator, Sequence

from relay.model import Delivery, Disposition, Envelope, Outcome, Recipient

MAX_WHOLE = 64 * 1024  # of a message that is returned in full
MAX_HEADERS = 128 * 1024  # of the headers that are returned otherwise
MAX_TEXT = 500  # of a remote host's words
MAX_LINE = 998  # RFC 5322 §2.1.1

Failure = tuple[Recipient, Outcome]


def make_bounce(
    delivery: Delivery,
    failures: Sequence[Failure],
    *,
    original: bytes,
    hostname: str,
    message_id: str,
    now: float,
    remote: str,
) -> tuple[Envelope, bytes] | None:
    """Return the notice about ``failures`` to the sender, or None when nobody is to be told.

    A failure whose outcome is still "deferred" is one whose time is up; its outcome is that of
    the last attempt. ``original``: the stored message, or as much of its head as is at hand.
    ``hostname``, ``message_id``: ours, and the notice's. ``remote``: name of the host that gave
    the answers, "" if there was none. ``now``: seconds since 1970.

    None: the sender is null (RFC 5321 §6.1: no notice about a notice), or no recipient that
    failed has a NOTIFY parameter that lets us (RFC 3461 §4.1).
    """
    told = [failure for failure in failures if _is_wanted(failure[0].notify)]
    envelope = delivery.envelope
    if not envelope.sender or delivery.notice or not told:
        return None
    # RFC 6533 §3: the global types are for what the others cannot hold.
    addresses = [envelope.sender, *(recipient.address for recipient, _ in told)]
    is_global = envelope.smtputf8 or not all(address.isascii() for address in addresses)
    parts = (
        _write_words(delivery, told, hostname=hostname, now=now),
        _write_status(
            delivery, told, hostname=hostname, now=now, remote=remote, is_global=is_global
        ),
        _write_original(delivery, original, is_global=is_global),
    )
    headers = _write_headers(envelope.sender, original, hostname, message_id, now)
    content = headers + _join(parts, message_id)
    notice = Envelope(
        sender=b"",
        recipients=(Recipient(envelope.sender),),
        body=b"" if content.isascii() else b"8BITMIME",
        # RFC 6531 §3.4: for addresses and header fields. What is inside the parts only needs
        # 8BITMIME (RFC 6532 §3.7), and the fewer demands, the surer it arrives.
        smtputf8=not envelope.sender.isascii(),
    )
    return notice, content


def _is_wanted(notify: bytes) -> bool:
    """RFC 3461 §4.1: without NOTIFY the sender hears of failures; else only if it says so."""
    return not notify or b"FAILURE" in notify.upper().split(b",")


# -- The frame


def _write_headers(
    sender: bytes, original: bytes, hostname: str, message_id: str, now: float
) -> bytes:
    lines = [
        b"From: Mail Delivery System <MAILER-DAEMON@%b>" % _ascii(hostname).encode(),
        b"To: <%b>" % _clean_utf8(sender),
        b"Subject: Delivery Status Notification (Failure)",
        b"Date: " + _format_date(now),
        b"Message-ID: <%b@%b>" % (_ascii(message_id).encode(), _ascii(hostname).encode()),
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


def _write_words(
    delivery: Delivery, failures: Sequence[Failure], *, hostname: str, now: float
) -> bytes:
    lines = [
        f"This is the mail gateway at {_ascii(hostname)}.",
        "",
        "Your message could not be delivered to the recipients below. It will not be",
        "tried again. If you cannot tell from the reason what to do, pass this notice on",
        "to your postmaster.",
        "",
    ]
    text = "\r\n".join(lines).encode() + b"\r\n"
    for recipient, outcome in failures:
        said = "\r\n".join(_explain(outcome, now - delivery.accepted)).encode()
        text += b"<%b>\r\n%b\r\n\r\n" % (_clean_utf8(recipient.address), said)
    charset = b"us-ascii" if text.isascii() else b"utf-8"
    return _part(b"text/plain; charset=" + charset, text)


def _explain(outcome: Outcome, waited: float) -> Iterator[str]:
    """Yield indented lines that say what happened to one recipient."""
    if outcome.disposition is Disposition.DEFERRED:
        yield f"    could not be delivered for {_format_duration(waited)}; the last attempt ended so:"
    elif outcome.code and outcome.command:
        yield f"    was refused by the recipient's mail server in answer to {_name(outcome)}:"
    else:
        yield "    cannot be delivered:"
    answer = _limit(_quote(outcome))
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
    return f"the {_ascii(outcome.command)} command"


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


def _write_status(
    delivery: Delivery,
    failures: Sequence[Failure],
    *,
    hostname: str,
    now: float,
    remote: str,
    is_global: bool,
) -> bytes:
    """RFC 3464 §2: a group of fields about the message, then one about each recipient."""
    fields = [b"Reporting-MTA: dns; " + _ascii(hostname).encode()]
    if envid := _decode_xtext(delivery.envelope.envid):
        fields.append(b"Original-Envelope-Id: " + envid)
    fields.append(b"Arrival-Date: " + _format_date(delivery.accepted))
    groups = [fields]
    groups += [list(_describe(failure, remote, now, is_global=is_global)) for failure in failures]
    kind = b"message/global-delivery-status" if is_global else b"message/delivery-status"
    # RFC 3464 §2.1.1: an empty line before each group.
    return _part(kind, b"".join(b"\r\n".join(group) + b"\r\n\r\n" for group in groups))


def _describe(failure: Failure, remote: str, now: float, *, is_global: bool) -> Iterator[bytes]:
    """Yield the fields about one recipient, RFC 3464 §2.3."""
    recipient, outcome = failure
    if original := _read_orcpt(recipient.orcpt, is_global=is_global):
        yield b"Original-Recipient: " + original
    kind = b"rfc822" if recipient.address.isascii() else b"utf-8"  # RFC 6533 §3
    yield b"Final-Recipient: %b; %b" % (kind, _clean_utf8(recipient.address))
    yield b"Action: failed"
    yield b"Status: " + _find_status(outcome)
    # RFC 3464 §2.3.5, §2.3.6: only for what a remote host has said.
    if outcome.code and outcome.command:
        if remote:
            yield b"Remote-MTA: dns; " + _limit(remote, 255).encode()
        yield _fold("Diagnostic-Code: smtp; " + _limit(_quote(outcome)))
    elif outcome.text:
        yield _fold("Diagnostic-Code: x-outgate; " + _limit(outcome.text))
    yield b"Last-Attempt-Date: " + _format_date(now)


def _find_status(outcome: Outcome) -> bytes:
    """Return the status code: the last answer's, or that the time was over."""
    if outcome.disposition is Disposition.DEFERRED:
        return b"4.4.7"  # RFC 3463 §3.5: delivery time expired; the diagnostic has the cause
    if re.fullmatch(r"[45]\.[0-9]{1,3}\.[0-9]{1,3}", outcome.status):
        return outcome.status.encode()
    return b"5.0.0"


def _read_orcpt(orcpt: bytes, *, is_global: bool) -> bytes:
    """Return ORCPT as a field's value, or b"" when there is none that makes sense."""
    kind, semicolon, address = orcpt.partition(b";")
    decoded = _decode_xtext(address)
    if not semicolon or not decoded or not re.fullmatch(rb"[A-Za-z0-9-]{1,32}", kind):
        return b""
    if is_global and kind.lower() == b"utf-8":
        decoded = _decode_unitext(decoded)
    return kind + b";" + decoded


# -- Third part: the message


def _write_original(delivery: Delivery, original: bytes, *, is_global: bool) -> bytes:
    # RFC 3461 §4.3: the whole message only for RET=FULL, and we may still send the headers.
    is_whole = len(original) >= delivery.size
    if delivery.envelope.ret.upper() == b"FULL" and is_whole and _is_sendable(original):
        return _part(b"message/global" if is_global else b"message/rfc822", original)
    kind = b"message/global-headers" if is_global else b"text/rfc822-headers"
    clean = _clean_utf8 if is_global else _clean
    lines = (clean(line.replace(b"\t", b" "), MAX_LINE) for line in _read_headers(original))
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


# -- What others wrote


def _clean(octets: bytes, most: int = 900) -> bytes:
    """Return octets without control characters, none of which may reach a header, cut to fit."""
    return re.sub(rb"[\x00-\x1f\x7f]", b"?", octets[:most])


def _clean_utf8(octets: bytes, most: int = 900) -> bytes:
    """Return the same, and of what is not ASCII only what is UTF-8."""
    return _clean(octets, most).decode("utf-8", "ignore").encode()


def _ascii(text: str) -> str:
    """Return text in printable ASCII."""
    return re.sub(r"[^ -~]", "?", text)


def _limit(text: str, most: int = MAX_TEXT) -> str:
    """Return text in printable ASCII on one line, cut where it is too long."""
    text = " ".join(_ascii(text[: most + 1]).split())
    return text if len(text) <= most else text[: most - 3] + "..."


def _fold(field: str) -> bytes:
    """Fold a field at blanks (RFC 5322 §2.2.3); no line of it is blank, none too long."""
    lines = textwrap.wrap(field, 76, break_long_words=False, break_on_hyphens=False)
    return "\r\n ".join(lines).encode()


def _decode_xtext(xtext: bytes) -> bytes:
    """Decode RFC 3461 §4 xtext; b"" when it is not that, or hides what must not come out."""
    if not re.fullmatch(rb"(?:[!-*,-<>-~]|\+[0-9A-F]{2}){1,500}", xtext):
        return b""
    decoded = re.sub(rb"\+(..)", lambda found: bytes([int(found[1], 16)]), xtext)
    return decoded if re.fullmatch(rb"[ -~]+", decoded) and decoded.strip() else b""


def _decode_unitext(address: bytes) -> bytes:
    r"""Turn the ``\x{E9}`` of RFC 6533 §3 into UTF-8; as it came when that is no character."""

    def decode(found: re.Match[bytes]) -> bytes:
        character = int(found[1], 16)
        # Of ASCII only what would mean something else in the parameter: + = \ (RFC 6533 §3).
        if character in (0x2B, 0x3D, 0x5C) or 0xA0 <= character < 0xD800:
            return chr(character).encode()
        return chr(character).encode() if 0xE000 <= character < 0x110000 else found[0]

    return re.sub(rb"\\x\{([0-9A-F]{2,6})\}", decode, address)


# RFC 5322 §3.3, in English whatever the locale is.
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)


def _format_date(seconds: float) -> bytes:
    t = time.gmtime(seconds)
    day, month = _DAYS[t.tm_wday], _MONTHS[t.tm_mon - 1]
    clock = f"{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}"
    return f"{day}, {t.tm_mday} {month} {t.tm_year} {clock} +0000".encode()
