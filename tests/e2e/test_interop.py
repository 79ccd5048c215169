"""Programs that others wrote, on both sides of ``outgate up``: each message arrives, the ledger closes.

In: smtp-source, swaks, Python's smtplib, a Postfix whose relayhost we are. Out: smtp-sink in
clear, and a Postfix that is only spoken to over TLS.
"""

import shutil
import smtplib
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from tests.kit import postfix, sink
from tests.kit.gateway import Gateway
from tests.kit.postfix import Postfix
from tests.kit.sink import Sink, run_source

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sink.find_obstacle() is not None, reason=str(sink.find_obstacle())),
    pytest.mark.skipif(postfix.find_obstacle() is not None, reason=str(postfix.find_obstacle())),
]

SENDER = "sender@acme.example"
TO_SINK = "recipient@sink.example"
TO_POSTFIX = "recipient@mail.example"
# TLS or no session at all, for the Postfix behind the gateway.
_SITE = '[[site]]\nname = "postfix"\ndomains = ["mail.example"]\ntls = "require"\n'

MESSAGE = (
    b"From: sender@acme.example\r\n"
    b"To: recipient@mail.example\r\n"
    b"Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\n"
    b"X-Folded: one\r\n"
    b"\ttwo\r\n"
    b"\r\n"
    b".a line that begins with a dot\r\n"
    b"..two of them\r\n"
    b"a line that ends in spaces   \r\n"
    b"\r\n"
)


@dataclass(frozen=True, slots=True)
class Post:
    """The gateway, with everything behind it."""

    gateway: Gateway
    sink: Sink
    postfix: Postfix
    inbox: Path  # what the Postfix has delivered, a file for each message
    ca: trustme.CA

    def passes(self, send: Callable[[], object], *, to_sink: int = 0, to_postfix: int = 0) -> None:
        """Assert that what ``send`` sends arrives, once each, and that the ledger closes."""
        before = self.gateway.read_ledger()
        at_sink, at_postfix = self.sink.count, self.count_inbox()

        send()

        expected = at_sink + to_sink, at_postfix + to_postfix
        deadline = time.monotonic() + 60
        while self.count() < expected and time.monotonic() < deadline:
            time.sleep(0.05)
        ledger = self.gateway.wait_ledger(before.accepted + to_sink + to_postfix)
        assert self.count() == expected, self.gateway.read_output()
        assert ledger.is_closed
        assert ledger.accepted == before.accepted + to_sink + to_postfix
        assert ledger.delivered == before.delivered + to_sink + to_postfix
        assert (ledger.bounced, ledger.unknown) == (0, 0)

    def count(self) -> tuple[int, int]:
        """Return how many messages are at the sink and in the Postfix's inbox."""
        return self.sink.count, self.count_inbox()

    def count_inbox(self) -> int:
        """Return how many messages the Postfix has put into its Maildir."""
        return sum(1 for _ in self.inbox.glob("new/*"))

    def newest(self) -> bytes:
        """Return the message that came into the inbox last, with CRLF again."""
        path = max(self.inbox.glob("new/*"), key=lambda path: path.stat().st_mtime_ns)
        return path.read_bytes().replace(b"\n", b"\r\n")


@pytest.fixture(scope="module")
def post() -> Iterator[Post]:
    """One gateway for all tests here; each looks at what its own messages changed."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        directory.chmod(0o755)
        mail = directory / "mail"
        mail.mkdir()
        ca = trustme.CA()
        certificate, key = _write_certificate(ca, directory)
        tls = {"smtpd_tls_cert_file": certificate, "smtpd_tls_key_file": key}
        receiver = stack.enter_context(
            Postfix(
                postfix.maildir_settings("mail.example", mail)
                | tls
                | {"smtpd_tls_security_level": "encrypt", "smtpd_tls_received_header": "yes"}
            )
        )
        drain = stack.enter_context(Sink())
        gateway = stack.enter_context(
            Gateway(
                {"sink.example": drain.port, "mail.example": receiver.port},
                tables=f'[ingress.tls]\ncertificate = "{certificate}"\nkey = "{key}"\n{_SITE}',
            )
        )
        yield Post(gateway, drain, receiver, mail / "inbox", ca)


def _write_certificate(ca: trustme.CA, directory: Path) -> tuple[str, str]:
    issued = ca.issue_cert("gateway.example.net", "localhost", "127.0.0.1")
    issued.private_key_pem.write_to_path(str(directory / "key.pem"))
    chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
    (directory / "certificate.pem").write_bytes(chain)
    return str(directory / "certificate.pem"), str(directory / "key.pem")


def test_smtp_source_reaches_the_sink(post: Post) -> None:
    post.passes(
        lambda: run_source(post.gateway.port, count=500, sender=SENDER, recipient=TO_SINK),
        to_sink=500,
    )


def test_smtp_source_reaches_a_postfix_over_tls(post: Post) -> None:
    post.passes(
        lambda: run_source(post.gateway.port, count=200, sender=SENDER, recipient=TO_POSTFIX),
        to_postfix=200,
    )

    assert b"(using TLSv1." in post.newest().partition(b"Received: from client.example.net")[0]


@pytest.mark.skipif(shutil.which("swaks") is None, reason="swaks is not installed")
@pytest.mark.parametrize(
    "options",
    [[], ["--tls"], ["--pipeline"], ["--tls", "--pipeline"]],
    ids=lambda options: " ".join(options) or "plain",
)
def test_swaks_reaches_both(post: Post, options: list[str]) -> None:
    command = [
        "swaks", "--server", "127.0.0.1", "--port", str(post.gateway.port), "--ehlo",
        "client.example.net", "--from", SENDER, "--to", f"{TO_SINK},{TO_POSTFIX}", *options,
    ]  # fmt: skip

    post.passes(
        lambda: subprocess.run(command, check=True, timeout=60, capture_output=True),
        to_sink=1,
        to_postfix=1,
    )


@pytest.mark.parametrize("starttls", [False, True], ids=["clear", "starttls"])
def test_smtplib_reaches_both_with_every_byte(post: Post, *, starttls: bool) -> None:
    def send() -> None:
        with smtplib.SMTP("127.0.0.1", post.gateway.port, timeout=30) as client:
            if starttls:
                context = ssl.create_default_context()
                post.ca.configure_trust(context)
                client.starttls(context=context)
            for _ in range(3):
                client.sendmail(SENDER, [TO_SINK, TO_POSTFIX], MESSAGE)

    post.passes(send, to_sink=3, to_postfix=3)

    assert post.newest().endswith(MESSAGE)


def test_smtplib_refused_for_a_sender_that_is_no_tenant(post: Post) -> None:
    with smtplib.SMTP("127.0.0.1", post.gateway.port, timeout=30) as client:
        with pytest.raises(smtplib.SMTPResponseException) as refused:
            client.sendmail("somebody@elsewhere.example", [TO_SINK], MESSAGE)

    assert refused.value.smtp_code == 550


@pytest.mark.parametrize("level", ["none", "encrypt"])
def test_postfix_relays_through_us_to_both(post: Post, level: str) -> None:
    settings = {
        "relayhost": f"[127.0.0.1]:{post.gateway.port}",
        "smtp_tls_security_level": level,
    }
    with Postfix(settings) as sender:

        def send() -> None:
            run_source(sender.port, count=100, sender=SENDER, recipient=TO_SINK)
            run_source(sender.port, count=100, sender=SENDER, recipient=TO_POSTFIX)

        post.passes(send, to_sink=100, to_postfix=100)

        assert "status=deferred" not in sender.read_log()
