"""Sources that can be sent from, and those that cannot."""

import pytest

from relay.config.schema import Source
from tests.kit.egress import SocksServer, running
from tests.workers.doctor.place import ANY, A
from workers.doctor.binding import check_binding


@pytest.mark.parametrize("source", [A, ANY])
async def test_an_address_of_this_machine(source: Source) -> None:
    (found,) = await check_binding(source)

    assert (found.check, found.level, found.source) == ("bind", "ok", source.name)


async def test_an_address_of_another() -> None:
    (found,) = await check_binding(Source(name="gone", address="192.0.2.77", ehlo="gone.out.test"))

    assert (found.check, found.level, found.source) == ("bind", "error", "gone")
    assert "cannot send from 192.0.2.77" in found.text
    assert "source.address" in found.advice


async def test_a_proxy_and_what_it_does_not_tell() -> None:
    proxy = SocksServer()
    async with running(proxy):
        source = Source(name="far", address="192.0.2.77", proxy=f"socks5://127.0.0.1:{proxy.port}")
        (found,) = await check_binding(source)
    assert (found.level, "only the proxy knows" in found.text) == ("notice", True)

    (found,) = await check_binding(source)
    assert (found.level, "source.proxy" in found.advice) == ("error", True)


async def test_a_password_that_cannot_be_read() -> None:
    source = Source(
        name="far",
        address="192.0.2.77",
        proxy="socks5://me@127.0.0.1:9",
        proxy_password_file="/nowhere/at/all",
    )
    (found,) = await check_binding(source)

    assert (found.level, "proxy_password_file" in found.text) == ("error", True)
