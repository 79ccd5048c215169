"""The trace line that every relay adds (RFC 5321 §4.4), and the hop count that stops loops."""

import functools
import time
from email.utils import formatdate

# RFC 5321 §6.3: "simple counting of Received headers", with a limit of at least 100.
MAX_HOPS = 100


@functools.lru_cache(maxsize=4)
def _format_date(second: int) -> str:
    return formatdate(second, localtime=False)


def make_received(
    *,
    hello: bytes,
    client: str,
    hostname: str,
    message_id: str,
    protocol: str,
    tls: str,
    recipient: bytes | None,
) -> bytes:
    """Return the Received line, with its CRLF.

    ``protocol``: RFC 3848 and RFC 6531 §4.3 keyword (SMTP, ESMTP, ESMTPS, UTF8SMTPS ...);
    ``tls``: version and cipher, "" in clear. ``recipient``: named only when it is the only one,
    so that nobody learns who else got the message (RFC 5321 §7.2).
    """
    literal = f"IPv6:{client}" if ":" in client else client
    name = hello.decode("ascii", "replace").replace("�", "?").replace("(", "").replace(")", "")
    name = name or "?"  # of a name that was nothing but brackets
    lines = [
        f"Received: from {name} ([{literal}])",
        f"\tby {hostname} (outgate) with {protocol} id {message_id}",
    ]
    if tls:
        lines.append(f"\t({tls})")
    text = "\r\n".join(lines).encode("ascii")
    if recipient is not None:
        text += b"\r\n\tfor <" + recipient + b">"
    return text + f"; {_format_date(int(time.time()))}\r\n".encode("ascii")


def count_hops(head: bytes) -> int:
    """Count the Received lines in the head of a message, in lower case (``cut_head``)."""
    return head.count(b"\r\nreceived:") + head.startswith(b"received:")
