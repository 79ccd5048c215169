"""Resolvers: real ones that validate, and small ones that do as they are told."""

from pathlib import Path
from typing import Any

import pytest

from relay.config import Config
from tests.kit.dnssec import Zone, find_obstacle, open_dnssec
from tests.kit.nameserver import SERVFAIL, Nameserver, open_nameserver
from tests.workers.doctor.place import levels, make_config
from workers.doctor.nameservice import check_resolver

# The root, as a small server can have it.
ROOT: dict[str, Any] = {".": {"SOA": ["a.root.test. h.root.test. 1 7200 900 1209600 300"]}}


def configure(base: Path, *servers: object, dane: bool = True, **dns: Any) -> Config:
    settings = {"nameservers": [str(server) for server in servers], "timeout": "1s", **dns}
    return make_config(base, dns=settings, tls={"dane": dane})


@pytest.mark.skipif(find_obstacle() is not None, reason=str(find_obstacle()))
async def test_one_that_validates(tmp_path: Path) -> None:
    zones = {"example.test": Zone({"example.test": {"A": ["192.0.2.1"]}})}
    async with open_dnssec(zones) as servers:
        (found,) = await check_resolver(configure(tmp_path, servers.endpoint))
        assert (found.check, found.level) == ("resolver", "ok")
        assert "answers and validates" in found.text

        (found,) = await check_resolver(configure(tmp_path, servers.endpoint, trust_ad=False))
        assert (found.level, "dns.trust_ad" in found.advice) == ("notice", True)


@pytest.mark.parametrize(
    ("authentic", "settings", "level", "text"),
    [
        (True, {}, "ok", "answers and validates"),
        (True, {"trust_ad": True}, "ok", "answers and validates"),
        (True, {"trust_ad": False}, "notice", "is not believed"),
        (False, {}, "warning", "DANE is never applied"),
        (False, {"trust_ad": False}, "notice", "would not be believed"),
        (False, {"dane": False}, "ok", "does not validate (tls.dane is off)"),
    ],
)
async def test_what_is_made_of_the_bit(
    tmp_path: Path, authentic: bool, settings: dict[str, Any], level: str, text: str
) -> None:
    async with open_nameserver(ROOT, authentic=authentic) as server:
        (found,) = await check_resolver(configure(tmp_path, server.endpoint, **settings))

        assert server.queries == [(".", "SOA")]
    assert (found.level, text in found.text) == (level, True), found


async def test_each_name_server_is_asked(tmp_path: Path) -> None:
    """One that is dead hides behind another otherwise."""
    async with open_nameserver(ROOT, authentic=True) as good:
        found = await check_resolver(configure(tmp_path, "127.0.0.1:9", good.endpoint))

    assert levels(found) == [("resolver", "error"), ("resolver", "ok")]
    assert "no answer" in found[0].text
    assert found[0].subject == "127.0.0.1:9"


async def test_one_that_knows_no_root(tmp_path: Path) -> None:
    async with open_nameserver({"x.test": {"A": ["192.0.2.1"]}}) as server:
        (found,) = await check_resolver(configure(tmp_path, server.endpoint))
    assert (found.level, "cannot be told" in found.text) == ("skipped", True)


async def test_one_that_fails(tmp_path: Path) -> None:
    server: Nameserver
    async with open_nameserver(ROOT) as server:
        server.trouble = SERVFAIL
        (found,) = await check_resolver(configure(tmp_path, server.endpoint))
    assert (found.level, "SERVFAIL" in found.text) == ("error", True)


async def test_one_that_has_no_address(tmp_path: Path) -> None:
    (found,) = await check_resolver(configure(tmp_path, "resolver.example.net:53"))

    assert (found.level, "dns.nameservers" in found.text) == ("error", True)
