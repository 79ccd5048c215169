import sys
from pathlib import Path

import pytest

from relay.config.schema import Source
from relay.errors import ConfigError, SourceUnusable
from relay.net.egress import DirectEgress, make_egress
from relay.net.haproxy import HaproxyEgress
from relay.net.proxy import Proxy
from relay.net.socks import SocksEgress
from tests.kit.egress import HeaderProxy, SocksServer, open_sink, running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="all of 127.0.0.0/8 is Linux")


def make_source(proxy: str = "", password_file: str = "", address: str = "127.0.0.21") -> Source:
    return Source(name="a", address=address, proxy=proxy, proxy_password_file=password_file)


@pytest.fixture
def password_file(tmp_path: Path) -> str:
    path = tmp_path / "password"
    path.write_text("s3cret\n")
    return str(path)


# -- each way out, from the configuration to the host ------------------------------------------


async def test_without_a_proxy_our_own_address_is_bound() -> None:
    egress = make_egress(make_source())
    async with open_sink() as sink:
        await egress.check()
        stream = await egress.connect("127.0.0.1", sink.port)

        assert await stream.receive() == b"220 sink.test\r\n"
        stream.close()
        assert sink.clients == ["127.0.0.21"]


async def test_an_address_that_is_not_here_is_found_by_checking() -> None:
    egress = make_egress(make_source(address="192.0.2.1"))

    with pytest.raises(SourceUnusable, match=r"cannot send from 192\.0\.2\.1"):
        await egress.check()


async def test_an_address_behind_a_proxy_need_not_be_here() -> None:
    async with running(SocksServer()) as server:
        await make_egress(make_source(f"socks5://127.0.0.1:{server.port}", "", "192.0.2.1")).check()
    async with running(HeaderProxy()) as server:
        url = f"haproxy://127.0.0.1:{server.port}"
        await make_egress(make_source(url, "", "192.0.2.1")).check()


async def test_a_password_comes_from_its_file(password_file: str) -> None:
    users = {"a": ("s3cret", "127.0.0.21")}
    async with open_sink() as sink, running(SocksServer(users=users)) as server:
        egress = make_egress(make_source(f"socks5://a@127.0.0.1:{server.port}", password_file))
        await egress.check()
        stream = await egress.connect("127.0.0.1", sink.port)

        assert await stream.receive() == b"220 sink.test\r\n"
        stream.close()
        assert "s3cret" not in repr(egress)


# -- the configuration -------------------------------------------------------------------------


def test_what_a_url_makes(password_file: str) -> None:
    ours = "127.0.0.21"
    assert make_egress(make_source()) == DirectEgress(ours)
    assert make_egress(make_source("socks5://proxy.lan:1080")) == SocksEgress(
        ours, Proxy("proxy.lan", 1080)
    )
    assert make_egress(make_source("socks5://me@corp@[::1]:1080", password_file)) == SocksEgress(
        ours, Proxy("::1", 1080), "me@corp", "s3cret"
    )
    assert make_egress(make_source("haproxy://192.0.2.9:5000")) == HaproxyEgress(
        ours, Proxy("192.0.2.9", 5000)
    )


@pytest.mark.parametrize(
    "url",
    [
        "proxy.lan:1080",
        "http://proxy.lan:1080",
        "socks5://proxy.lan",
        "socks5://proxy.lan:0",
        "socks5://@proxy.lan:1080",
        "socks5://proxy.lan:1080/x",
        "haproxy://:5000",
    ],
)
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(ConfigError, match=r"source 'a': proxy: expected .*socks5://"):
        make_egress(make_source(url))


@pytest.mark.parametrize(
    "url", ["socks5://a:s3cret@proxy.lan:1080", "a:s3cret@proxy.lan:1080", "socks5://a:s3cret@x"]
)
def test_a_password_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_egress(make_source(url))

    assert "s3cret" not in str(caught.value)


def test_user_and_password_go_together(password_file: str) -> None:
    for source in (
        make_source("socks5://a@proxy.lan:1080"),
        make_source("socks5://proxy.lan:1080", password_file),
        make_source("haproxy://proxy.lan:1080", password_file),
    ):
        with pytest.raises(ConfigError, match="needs a proxy_password_file"):
            make_egress(source)
    with pytest.raises(ConfigError, match="there is no proxy"):
        make_egress(make_source("", password_file))
    with pytest.raises(ConfigError, match="haproxy:// knows no users"):
        make_egress(make_source("haproxy://a@proxy.lan:1080", password_file))


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
def test_a_proxy_that_is_told_the_address_needs_one(address: str) -> None:
    with pytest.raises(ConfigError, match="must be told one"):
        make_egress(make_source("haproxy://proxy.lan:5000", "", address))


@pytest.mark.parametrize("content", [b"", b"\n", b"s3\ncret\n", b"s" * 256, b"\xff"])
def test_a_password_that_cannot_be_one(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)

    with pytest.raises(ConfigError, match="source 'a': proxy_password_file: ") as caught:
        make_egress(make_source("socks5://a@proxy.lan:1080", str(path)))
    assert "s3" not in str(caught.value)


def test_a_password_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"proxy_password_file: cannot read .*No such file"):
        make_egress(make_source("socks5://a@proxy.lan:1080", str(tmp_path / "none")))


def test_a_user_name_has_a_length(password_file: str) -> None:
    with pytest.raises(ConfigError, match="at most 255 octets"):
        make_egress(make_source(f"socks5://{'é' * 128}@proxy.lan:1080", password_file))
