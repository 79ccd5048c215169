"""The command line beside a delivery pool: one configuration file for both."""

import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import trio

from relay.config import Config, load
from relay.events import decode_event, encode_event
from relay.model import Delivery, Envelope, Recipient, make_message_id
from relay.store.keys import find_shard, make_key, read_queue
from relay.store.queue import Store
from tests.kit.redis import Server
from workers.cli.main import main
from workers.hosts import Host

_LISTENING = ("retry", "hold", "bounce")
_ENVIRONMENT = {"COLUMNS": "100", "SUDO_USER": "ann"}
_ROOT = Path(__file__).parents[2]
SMALL = b"Subject: x\r\n\r\nhello\r\n"
_CONFIG = """\
state_dir = "state"
[store]
url = "{url}"
[ingress]
hostname = "gate.example.net"
[[tenant]]
name = "acme"
domains = ["acme.example"]
networks = ["127.0.0.0/8"]
[[tenant]]
name = "globex"
domains = ["globex.example"]
networks = ["127.0.0.0/8"]
{sources}
[pool.default]
{weights}
[delivery]
idle = "1s"
{delivery}
{routes}
{tables}
"""


@dataclass(frozen=True, slots=True)
class Done:
    """What a command said, and how it ended."""

    status: int
    out: str
    err: str

    @property
    def said(self) -> Any:
        """What it printed with ``--json``."""
        return json.loads(self.out)


def _run_here(argv: list[str]) -> Done:
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, _ENVIRONMENT),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        status = main(argv)
    return Done(status, out.getvalue(), err.getvalue())


@dataclass(frozen=True, slots=True)
class Desk:
    """An operator's place: the configuration, and the commands."""

    file: str

    @property
    def config(self) -> Config:
        return load(self.file)

    async def call(self, *words: str) -> Done:
        """Run ``outgate WORDS``: in a thread, or where it listens to signals, in a process."""
        name, *rest = words
        argv = [name, "-c", self.file, *rest]
        if name not in _LISTENING:
            return await trio.to_thread.run_sync(_run_here, argv)
        done = await trio.run_process(
            [sys.executable, "-m", "workers.cli", *argv],
            cwd=_ROOT,
            env={**os.environ, **_ENVIRONMENT},
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    async def ask(self, *words: str) -> Any:
        """Run a command with ``--json`` that must succeed; return what it said."""
        done = await self.call(*words, "--json")
        assert done.status == 0, done
        return done.said

    def read_events(self, name: str) -> list[dict[str, Any]]:
        """Return the events of a name in the log."""
        lines = Path(self.config.log.events).read_bytes().splitlines()
        return [event for event in map(decode_event, lines) if event["event"] == name]


def make_desk(
    base: Path,
    server: Server,
    *,
    routes: Mapping[str, Host | Sequence[Host]] | None = None,
    sources: Mapping[str, str] | None = None,
    delivery: str = 'retry = ["1h"]',
    tables: str = "",
) -> Desk:
    """Write a configuration; ``delivery``, ``tables``: TOML."""
    sources = sources or {"a": "127.0.0.11"}
    file = base / "outgate.toml"
    file.write_text(
        _CONFIG.format(
            url=server.url,
            sources="".join(
                f'[[source]]\nname = "{name}"\naddress = "{address}"\n'
                for name, address in sources.items()
            ),
            weights="\n".join(f"{name} = 1" for name in sources),
            delivery=delivery,
            routes="".join(
                f'[[route]]\ndomains = ["{domain}"]\nhosts = ["{host.address}:{host.port}"]\n'
                for domain, hosts in (routes or {}).items()
                for host in ([hosts] if isinstance(hosts, Host) else hosts)
            ),
            tables=tables,
        )
    )
    return Desk(str(file))


async def post(
    store: Store,
    *people: str,
    tenant: str = "acme",
    priority: str = "",
    accepted: float | None = None,
    sender: str = "",
) -> str:
    """Accept a message for recipients of any domains, as the ingress would; return its id."""
    domains: dict[str, list[str]] = {}
    for person in people:
        domains.setdefault(person.partition("@")[2], []).append(person)
    home = find_shard(next(iter(domains)))
    now = time.time() if accepted is None else accepted
    message_id = make_message_id(home, now=now)
    sender = sender or f"s@{tenant}.example"
    deliveries = [
        Delivery(
            id=f"{message_id}.{number}",
            tenant=tenant,
            pool="default",
            domain=domain,
            envelope=Envelope(sender.encode(), tuple(Recipient(p.encode()) for p in group)),
            size=len(SMALL),
            chunks=1,
            accepted=now,
            home=home,
            alone=len(domains) == 1,
            priority=priority,
        )
        for number, (domain, group) in enumerate(domains.items())
    ]
    event = {
        "time": now,
        "event": "accepted",
        "id": message_id,
        "tenant": tenant,
        "sender": sender,
        "recipients": list(people),
        "size": len(SMALL),
        "client": "192.0.2.1",
        "tls": "",
    }
    assert await store.accept(deliveries, encode_event(event), SMALL)
    return message_id


async def note_site(store: Store, site: str, *queues: str) -> None:
    """Have the site of queues known, as if a worker had looked it up."""
    for queue in queues:
        shard = find_shard(read_queue(queue).domain)
        await store.link.call("SET", make_key(shard, "site", queue), site)
