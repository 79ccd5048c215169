"""Rules and messages for tests of ``relay.policy``."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from relay.config import Config, read
from relay.config.policy import Rule
from relay.events import EventLog
from relay.policy import Facts, Policy
from relay.scan.inquiry import Inquiry, Scan, ScanFailed
from relay.scan.scanner import Scanner

TENANTS = ("acme", "other")
HEAD = b"From: a@acme.example\r\nSubject: hello\r\n"
BODY = b"hello\r\n"


def read_config(*rules: dict[str, Any], **sections: Any) -> Config:
    """Return a checked configuration with these rules, two tenants, a scanner of each kind."""
    document: dict[str, Any] = {
        "tenant": [
            {"name": name, "domains": [f"{name}.example"], "networks": ["192.0.2.0/24"]}
            for name in TENANTS
        ],
        "scanner": [
            {"name": "virus", "kind": "clamd", "address": "127.0.0.1:3310", "on_failure": "defer"},
            {
                "name": "spam",
                "kind": "rspamd",
                "address": "127.0.0.1:11333",
                "on_failure": "accept",
            },
        ],
        "rule": [{"name": f"rule{number}", **rule} for number, rule in enumerate(rules)],
    }
    return read(document | sections, base=Path("/x"), environment={})


def make_rule(**keys: Any) -> Rule:
    """Return one rule as a checked configuration has it."""
    return read_config(keys).rule[0]


@dataclass
class Engine:
    """A scanner's program that says what it is told to, and remembers what it was asked."""

    answer: Scan | ScanFailed | None = None  # None: it never answers
    asked: list[Inquiry] = field(default_factory=list)

    async def ask(self, inquiry: Inquiry) -> Scan:
        self.asked.append(inquiry)
        if self.answer is None:
            await trio.sleep_forever()
        if isinstance(self.answer, ScanFailed):
            raise self.answer
        assert self.answer is not None
        return self.answer

    async def aclose(self) -> None:
        pass


def make_policy(config: Config, **engines: Engine) -> Policy:
    """Return a policy whose scanners are asked through these engines."""
    events = EventLog("/dev/null")
    scanners = {
        one.name: Scanner(one, engines.get(one.name, Engine()), events) for one in config.scanner
    }
    return Policy(config, scanners)


class Letter:
    """A message that counts how often it is read."""

    def __init__(
        self,
        head: bytes = HEAD,
        body: bytes = BODY,
        *,
        tenant: str = "acme",
        sender: bytes = b"a@acme.example",
        recipients: Sequence[bytes] = (b"b@there.example",),
        size: int | None = None,
    ) -> None:
        self.octets = head + b"\r\n" + body
        self.reads = 0
        self.facts = Facts(
            tenant=tenant,
            sender=sender,
            recipients=recipients,
            size=len(self.octets) if size is None else size,
            head=head,
            read=self._read,
            client="192.0.2.1",
            hello="mail.acme.example",
            message_id="M1",
        )

    async def _read(self) -> bytes:
        self.reads += 1
        await trio.lowlevel.checkpoint()
        return self.octets


def make_mixed(*parts: tuple[str, str]) -> tuple[bytes, bytes]:
    """Return head and body of a multipart message: type and file name of each part."""
    head = HEAD + b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="=b"\r\n'
    body = b"".join(
        b'--=b\r\nContent-Type: %s\r\nContent-Disposition: attachment; filename="%s"\r\n\r\nx\r\n'
        % (kind.encode(), name.encode())
        for kind, name in parts
    )
    return head, body + b"--=b--\r\n"
