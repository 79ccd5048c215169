"""Complaints and bounces, as receivers send them."""

from collections.abc import Iterable

HOSTNAME = "gw.example.net"


def make_trace(message_id: str, *, hostname: str = HOSTNAME) -> bytes:
    """Return the field that we put on a message, as it comes back: unfolded."""
    return (
        f"Received: from mail.acme.example ([192.0.2.1]) by {hostname} (outgate) with ESMTPS id "
        f"{message_id} (TLSv1.3 X) for <bob@y.test>; Thu, 26 Nov 2026 10:00:00 -0000\r\n"
    ).encode()


def make_original(message_id: str, *, hostname: str = HOSTNAME) -> bytes:
    """Return the head of a message that went through us, as its receiver has it."""
    return (
        b"Return-Path: <alice@acme.example>\r\n"
        b"Received: from out.example.net by mx.y.test with ESMTP id X1;\r\n"
        b"\tThu, 26 Nov 2026 10:00:01 -0000\r\n"
        + make_trace(message_id, hostname=hostname)
        + b"From: alice@acme.example\r\nSubject: news\r\n"
    )


def make_report(kind: str, *parts: tuple[str, bytes]) -> bytes:
    """Return a multipart/report of parts with their types."""
    body = b"".join(
        b"--=_b\r\nContent-Type: %b\r\n\r\n%b\r\n" % (content_type.encode(), content)
        for content_type, content in (("text/plain", b"Dear all,\r\n"), *parts)
    )
    head = f'Content-Type: multipart/report; report-type={kind}; boundary="=_b"\r\n'
    return b"From: fbl@y.test\r\nMIME-Version: 1.0\r\n%b\r\n%b--=_b--\r\n" % (head.encode(), body)


def make_arf(
    original: bytes,
    *,
    kind: str = "abuse",
    recipient: str = "bob@y.test",
    source_ip: str = "",
    headers_only: bool = False,
) -> bytes:
    """Return a complaint. ``recipient`` "": it is blacked out."""
    lines = [f"Feedback-Type: {kind}", "User-Agent: Test/1.0", "Version: 1"]
    lines += [f"Original-Rcpt-To: <{recipient}>"] if recipient else []
    lines += [f"Source-IP: {source_ip}"] if source_ip else []
    content_type = "text/rfc822-headers" if headers_only else "message/rfc822"
    return make_report(
        "feedback-report",
        ("message/feedback-report", "".join(f"{line}\r\n" for line in lines).encode()),
        (content_type, original if headers_only else original + b"\r\nBuy now\r\n"),
    )


def make_bounce(
    original: bytes, recipients: Iterable[str] = ("bob@y.test",), *, action: str = "failed"
) -> bytes:
    """Return a delivery status report."""
    status = b"Reporting-MTA: dns; inner.y.test\r\n" + b"".join(
        f"\r\nFinal-Recipient: rfc822; {recipient}\r\nAction: {action}\r\nStatus: 5.1.1\r\n"
        "Diagnostic-Code: smtp; 550 5.1.1 no\r\n such user\r\n".encode()
        for recipient in recipients
    )
    return make_report(
        "delivery-status", ("message/delivery-status", status), ("text/rfc822-headers", original)
    )
