"""The admin service as a process: it begins without the store, ends when told, and mail does not mind."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
import trio

from relay.config import read
from relay.errors import StartError
from relay.net.listen import open_listener
from tests.kit.alive import is_alive
from tests.kit.command import make_desk
from tests.kit.desk import Desk
from tests.kit.gateway import Gateway
from tests.kit.office import open_office
from tests.kit.ports import find_free_port
from tests.kit.redis import Server
from workers.admin.service import serve, spell_address


def wait_until(holds: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextlib.contextmanager
def call(port: int) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        yield client


def is_well(port: int) -> bool:
    with contextlib.suppress(httpx2.HTTPError), call(port) as client:
        return client.get("/healthz").status_code == 200
    return False


def find_admin(gateway: Gateway) -> int:
    """Return the process id of the admin child."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (path / "cmdline").read_bytes().split(b"\0")
            if b"admin" in words and str(gateway.config).encode() in words:
                return int(path.name)
    return 0


@pytest.mark.slow
@pytest.mark.alone
def test_it_begins_without_a_store_and_ends_when_told() -> None:
    with Desk("unix:///nowhere/sock") as desk, call(desk.port) as client:
        assert client.get("/healthz").json() == {"ok": True}
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["ready"]) == (503, False)
        wait_until(lambda: client.get("/api/v1/status").status_code == 503)
        pid = desk.pid
        assert os.getpriority(os.PRIO_PROCESS, pid) == 1
        # A listener does not hold it up.
        listener = socket.create_connection(("127.0.0.1", desk.port))
        with listener:
            listener.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert listener.recv(100)
            began = time.monotonic()
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda: not is_alive(pid))
            assert time.monotonic() - began < 4


@pytest.mark.slow
def test_up_runs_it_and_starts_it_again() -> None:
    port = find_free_port()
    with Gateway({"*": 9}, admin=f'listen = ["127.0.0.1:{port}"]') as gateway:
        wait_until(lambda: is_well(port))
        assert f"dashboard: http://127.0.0.1:{port}/" in gateway.read_output()
        first = find_admin(gateway)
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: find_admin(gateway) not in (0, first) and is_well(port))
        with call(port) as client:
            assert client.get("/api/v1/status").json()["ledger"]["accepted"] == 0
        last = find_admin(gateway)
        assert gateway.read_ledger().accepted == 0
    assert not is_alive(last)


@pytest.mark.slow
def test_mail_does_not_wait_for_one_that_cannot_run() -> None:
    """Its tokens are none: it says so, again and again, and the gateway is there."""
    port = find_free_port()
    gateway = Gateway({"*": 9}, admin=f'token_file = "tokens"\nlisten = ["127.0.0.1:{port}"]')
    (gateway.directory / "tokens").write_text("short\n")
    with gateway:
        assert gateway.read_ledger().accepted == 0
        wait_until(lambda: gateway.read_output().count("admin ended") > 3)
        assert "a token needs 16 characters or more" in gateway.read_output()


async def test_a_port_that_is_taken_is_named(server: Server, tmp_path: Path) -> None:
    with open_listener("127.0.0.1", 0) as other:
        port = other.getsockname()[1]
        tables = f'[admin]\nlisten = ["127.0.0.1:{port}"]\n'
        desk = make_desk(tmp_path, server, tables=tables)
        with pytest.raises(StartError, match=f"127.0.0.1:{port}: .*change admin.listen"):
            await serve(desk.config)


async def test_where_no_store_is_known_there_is_no_service(tmp_path: Path) -> None:
    config = read({"state_dir": "state"}, base=tmp_path, environment={})
    with pytest.raises(ExceptionGroup) as caught:
        async with open_office(config):
            pass
    assert caught.group_contains(StartError, match="no embedded store runs")


async def test_it_goes_on_without_a_place_to_write(server: Server, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    desk = make_desk(tmp_path, server)
    with trio.fail_after(30):
        async with open_office(desk.config) as visit:
            assert (await visit.ask("status"))["adds_up"]
            assert (await visit.client.get("/api/v1/messages")).status_code == 404
            assert (await visit.client.get("/api/v1/flow")).status_code == 404


def test_addresses_are_spelt_for_browsers() -> None:
    with open_listener("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert spell_address(listener) == f"http://127.0.0.1:{port}/"
    with open_listener("::1", 0) as listener:
        assert spell_address(listener).startswith("http://[::1]:")
