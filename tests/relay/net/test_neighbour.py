import os
import socket
from pathlib import Path

import pytest
import trio

from relay.errors import HostUnreachable
from relay.net.neighbour import Neighbour, parse_neighbour


@pytest.mark.parametrize(
    ("text", "expected", "shown"),
    [
        ("127.0.0.1:3310", Neighbour("127.0.0.1", 3310), "127.0.0.1 port 3310"),
        ("clamd:3310", Neighbour("clamd", 3310), "clamd port 3310"),
        ("[::1]:3310", Neighbour("::1", 3310), "::1 port 3310"),
        ("unix:/run/clamd.ctl", Neighbour(path="/run/clamd.ctl"), "/run/clamd.ctl"),
    ],
)
def test_addresses(text: str, expected: Neighbour, shown: str) -> None:
    assert parse_neighbour(text) == expected
    assert str(parse_neighbour(text)) == shown


@pytest.mark.parametrize(
    "text", ["", "clamd", ":3310", "clamd:0", "unix:", "unix:clamd.ctl", "unix:/" + "x" * 107]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_neighbour(text)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_over_tcp(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind(("::1" if ":" in host else "127.0.0.1", 0))
        listener.listen()
        stream = await Neighbour(host, listener.getsockname()[1]).connect()
        listener.accept()[0].close()

        assert await stream.receive() == b""
        stream.close()


async def test_over_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        stream = await Neighbour(path=path).connect()
        with listener.accept()[0] as theirs:
            theirs.sendall(b"hello")
            assert await stream.receive() == b"hello"
            await stream.send(b"yes")
            assert theirs.recv(10) == b"yes"
        stream.close()


async def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(HostUnreachable, match="No such file"):
        await Neighbour(path=str(tmp_path / "sock")).connect()
    with pytest.raises(HostUnreachable, match="port 1: Connection refused"):
        await Neighbour("127.0.0.1", 1).connect()
    with pytest.raises(HostUnreachable, match="cannot be found"):
        await Neighbour("x" * 70, 1).connect()


async def test_a_full_backlog_is_waited_for(tmp_path: Path, autojump_clock: object) -> None:
    place = Neighbour(path=str(tmp_path / "sock"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.settimeout(5)
        listener.bind(place.path)
        listener.listen(0)
        first = await place.connect()
        files = len(os.listdir("/proc/self/fd"))
        with trio.move_on_after(60) as scope:
            await place.connect()
        assert scope.cancelled_caught
        assert len(os.listdir("/proc/self/fd")) == files

        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def accept() -> None:
                await trio.sleep(1)
                listener.accept()[0].close()

            (await place.connect()).close()
        assert trio.current_time() >= 61
        first.close()
