"""Mail that proves whose it is: messages with a DKIM signature, and a name server that has its key."""

import contextlib
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import trio

from relay.config import Endpoint
from tests.kit.nameserver import Nameserver
from tests.kit.signing import SigningDomain, make_rsa_key

_LINE = b"What is written here is signed, and one octet less would be noticed.\r\n"
_STARTS_WITHIN = 10.0
# The tenant, with a key as Google's are: RSA, 2048 bits.
TENANT = SigningDomain("acme.example", key=make_rsa_key())


@contextlib.contextmanager
def write_message(size: int) -> Iterator[Path]:
    """Return a file for ``smtp-source -F``: a signed message with a body of ``size`` octets.

    Its lines end in LF; smtp-source makes CRLF of that.
    """
    body = (_LINE * (size // len(_LINE) + 1))[: size - 2] + b"\r\n"
    # No CR and no LF may stand alone where the body was cut.
    body = body.replace(b"\r\r\n", b"x\r\n")
    head = (
        b"From: Ann <sender@acme.example>\r\nTo: recipient@dest.example\r\n"
        b"Subject: A message of the bench\r\nDate: Sat, 28 Nov 2026 08:00:00 +0000\r\n"
        b"Message-ID: <bench@acme.example>\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: text/plain; charset=us-ascii\r\n\r\n"
    )
    with tempfile.NamedTemporaryFile(prefix="message-") as file:
        file.write(TENANT.sign(head + body).replace(b"\r\n", b"\n"))
        file.flush()
        yield Path(file.name)


@contextlib.contextmanager
def open_names() -> Iterator[Endpoint]:
    """Run a name server in a thread. It is asked once for the key: that costs the bench nothing."""
    server = Nameserver(TENANT.zone, ttl=3600)
    ready, stop = threading.Event(), trio.Event()
    token: list[trio.lowlevel.TrioToken] = []

    async def serve() -> None:
        token.append(trio.lowlevel.current_trio_token())
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            ready.set()
            await stop.wait()
            nursery.cancel_scope.cancel()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    try:
        if not ready.wait(_STARTS_WITHIN):
            raise RuntimeError("the bench's name server did not start")
        yield Endpoint(server.address, server.port)
    finally:
        if token:
            token[0].run_sync_soon(stop.set)
        thread.join()
