"""Neither secrets nor bodies come into the trail, whatever sessions and commands do."""

import subprocess
from pathlib import Path

import pytest

from relay.audit.trail import open_trail
from relay.events import EventLog
from relay.store.link import Link
from relay.store.queue import Store
from tests.kit import visit as place
from tests.kit.command import make_desk as make_cli
from tests.kit.redis import Server
from tests.kit.trail import check, look
from tests.kit.visit import TENANTS, make_config, make_desk, visit

SECRET = b"correct-horse-battery-staple-4711"
BODY = b"the body that nobody else may read"
PASSWORD = b"proxy-pass-word-0815"
STORE = b"store-pass-word-0816"
KEY = b"audit-key-audit-key-audit-key-0817"


def find_private_lines(file: Path) -> list[bytes]:
    """Return the lines of a private key that are its own."""
    return [line for line in file.read_bytes().splitlines() if line and b"-----" not in line]


@pytest.fixture
def dkim(tmp_path: Path) -> Path:
    file = tmp_path / "dkim.pem"
    subprocess.run(
        ["openssl", "genrsa", "-out", str(file), "2048"], check=True, capture_output=True
    )
    return file


def make_tables(base: Path, dkim: Path) -> dict[str, object]:
    (base / "secret").write_bytes(SECRET + b"\n")
    (base / "password").write_bytes(PASSWORD + b"\n")
    (base / "key").write_bytes(KEY + b"\n")
    acme = TENANTS[0] | {
        "header": "X-Acme-Relay",
        "header_secret_file": "secret",
        "dkim": [{"domain": "acme.example", "selector": "s", "key_file": str(dkim)}],
    }
    source = {
        "name": "a",
        "address": "192.0.2.9",
        "proxy": "socks5://ann@127.0.0.1:1",
        "proxy_password_file": "password",
    }
    return {
        "tenant": [acme, TENANTS[1]],
        "source": [source],
        "audit": {"directory": "audit", "key_file": "key"},
        "store": {"url": f"redis://:{STORE.decode()}@127.0.0.1:1/0"},
    }


async def test_nothing_of_it_stands_in_the_trail(
    tmp_path: Path,
    store: Store,
    link: Link,
    dkim: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = make_config(tmp_path, tables=make_tables(tmp_path, dkim))
    events = EventLog(config.log.events, open_trail(config, "ingress", link))
    monkeypatch.setattr(place, "EventLog", lambda _: events)
    desk = make_desk(config, store)
    message = b"X-Acme-Relay: %b\r\nSubject: private\r\n\r\n%b\r\n" % (SECRET, BODY)
    async with visit(desk) as client:
        await client.open_transaction()
        assert (await client.send_data(message))[:3] == b"250"
        # What is said in the wrong place, or refused, is not told either.
        await client.say(b"AUTH PLAIN " + SECRET)
        assert (await client.say(b"MAIL FROM:<x@stranger.example>"))[:3] == b"550"
        await client.say(b"QUIT")
    events.close()
    cli = make_cli(tmp_path, server, tables='[audit]\ndirectory = "audit"\nkey_file = "key"\n')
    assert (await cli.call("suspend", "--tenant", "acme")).status == 0

    directory = Path(config.audit.directory)
    written = b"".join(file.read_bytes() for file in directory.rglob("*") if file.is_file())
    assert written.count(b"\n") >= 4
    assert b'"event":"accepted"' in written
    assert b'"event":"refused"' in written
    private = find_private_lines(dkim)
    assert len(private) > 10
    for secret in (SECRET, BODY, PASSWORD, STORE, KEY, b"Subject", *private):
        assert secret not in written
    assert check(directory, look(directory)).is_sound
