"""Sentinels and a Cluster that want TLS and passwords, as their URLs say it."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from relay.config.storeurl import read_store_url
from relay.errors import StoreUnavailable
from relay.store.binary import find_binary
from relay.store.opening import make_link
from relay.store.sentinel import find_master
from tests.kit.authority import Authority
from tests.kit.ports import find_free_port
from tests.kit.redis import Server
from tests.kit.sentinel import wait_until

PASSWORD = "p@ss:w/rd"
SENTINELS = "o?her"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where an authority and a certificate of 127.0.0.1 are, as servers want to be told."""
    directory = tmp_path_factory.mktemp("tls")
    authority = Authority()
    chain, key = authority.issue("127.0.0.1").write(directory)
    return {
        "tls_cert_file": str(chain),
        "tls_key_file": str(key),
        "tls_ca_cert_file": str(authority.write(directory)),
        "tls_auth_clients": "no",
    }


@contextmanager
def run(server: Server) -> Iterator[Server]:
    """Run a server until the block ends."""
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextmanager
def watch(file: Path) -> Iterator[None]:
    """Run a Sentinel until the block ends."""
    command = [find_binary().path, str(file), "--sentinel"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


@pytest.mark.parametrize("said", ["right", "no password", "wrong authority"])
async def test_cluster(tmp_path: Path, files: dict[str, str], said: str) -> None:
    port = find_free_port()
    server = Server(
        tmp_path,
        **files,
        tls_port=str(port),
        requirepass=PASSWORD,
        cluster_enabled="yes",
        tls_cluster="yes",
        cluster_port=str(find_free_port()),
    )
    user = "" if said == "no password" else f"default:{quote(PASSWORD, '')}@"
    trusted = (
        str(Authority().write(tmp_path)) if said == "wrong authority" else files["tls_ca_cert_file"]
    )
    url = f"rediss+cluster://{user}127.0.0.1:{port}?ssl_ca_certs={quote(trusted, '')}"
    with run(server):
        with server.client() as client:
            client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            wait_until(lambda: client.cluster("info")["cluster_state"] == "ok", "it is not well")
        link = make_link(url, timeout=5)
        if said == "right":
            assert await link.call("SET", "k", "v") == b"OK"
        else:
            with pytest.raises(
                StoreUnavailable, match=r"NOAUTH|Authentication|CERTIFICATE|certificate"
            ):
                await link.call("SET", "k", "v")
        await link.aclose()


async def test_sentinel(tmp_path: Path, files: dict[str, str]) -> None:
    port, sentinel = find_free_port(), find_free_port()
    server = Server(
        tmp_path, **files, tls_port=str(port), requirepass=PASSWORD, tls_replication="yes"
    )
    with run(server):
        lines = [f"{name.replace('_', '-')} {value}" for name, value in files.items()]
        lines += [f"tls-port {sentinel}", "port 0", "tls-replication yes", "bind 127.0.0.1"]
        lines += [f"requirepass {SENTINELS}", f"dir {tmp_path}"]
        lines += [
            f"sentinel monitor mail 127.0.0.1 {port} 1",
            f'sentinel auth-pass mail "{PASSWORD}"',
        ]
        (tmp_path / "sentinel.conf").write_text("\n".join(lines) + "\n")
        with watch(tmp_path / "sentinel.conf"):
            options = f"ssl_ca_certs={quote(files['tls_ca_cert_file'], '')}"
            hosts = f"default:{quote(PASSWORD, '')}@127.0.0.1:{sentinel}"
            url = f"rediss+sentinel://{hosts}/mail/0?{options}&sentinel_password={quote(SENTINELS)}"
            wait_until(
                lambda: find_master(read_store_url(url), 5) == ("127.0.0.1", port), "not watched"
            )
            link = make_link(url, timeout=5)
            assert await link.call("SET", "k", "v") == b"OK"
            await link.aclose()
