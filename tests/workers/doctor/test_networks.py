"""Sets of networks: fresh, old, refused, never had."""

import ipaddress
from pathlib import Path

import msgspec
import pytest

from relay.store.keys import make_key
from relay.store.link import Link
from relay.store.networks import StoredSets
from tests.workers.doctor.place import levels, make_config
from workers.doctor.networks import check_networks

NETWORK = ipaddress.ip_network("192.0.2.0/24")
SPF = "spf _spf.google.com"


def configure(base: Path, *names: str) -> object:
    return [{"name": "acme", "domains": ["acme.example"], "networks": list(names)}]


async def test_what_is_never_refreshed_is_not_looked_at(link: Link, tmp_path: Path) -> None:
    config = make_config(tmp_path, tenant=configure(tmp_path, "127.0.0.0/8", "google-forwarding"))

    assert await check_networks(config, link) == []


async def test_from_the_seed_to_old_age(link: Link, tmp_path: Path) -> None:
    config = make_config(tmp_path, tenant=configure(tmp_path, "google"))
    sets = StoredSets(link)

    (found,) = await check_networks(config, link)
    assert (found.check, found.subject, found.level) == ("networks", "google", "notice")
    assert "November 2026" in found.text

    good = await sets.write("google", [NETWORK], SPF)
    (found,) = await check_networks(config, link)
    assert (found.level, found.text) == ("ok", "1 networks, 0 minutes old")

    old = msgspec.structs.replace(good, time=good.time - 3 * 3600 - 60)
    await link.call("HSET", make_key(0, "networks"), "google", msgspec.json.encode(old))
    (found,) = await check_networks(config, link)
    assert (found.level, "181 minutes old" in found.text) == ("warning", True)

    await sets.refuse("google", [NETWORK], SPF, "nine times as many")
    (found,) = await check_networks(config, link)
    assert (found.level, "nine times as many" in found.text) == ("error", True)
    assert "--accept google" in found.advice


async def test_one_that_nobody_knows(link: Link, tmp_path: Path) -> None:
    config = make_config(
        tmp_path,
        tenant=configure(tmp_path, "office"),
        network=[{"name": "office", "spf": "spf.acme.example"}],
    )
    # What was had from elsewhere, under another configuration, is another set.
    await StoredSets(link).write("office", [NETWORK], "spf elsewhere.test")

    assert levels(await check_networks(config, link)) == [("networks", "error")]


@pytest.mark.parametrize("names", [("google",)])
async def test_without_a_store(tmp_path: Path, names: tuple[str, ...]) -> None:
    link = Link("redis://127.0.0.1:9/0", timeout=1)
    config = make_config(tmp_path, tenant=configure(tmp_path, *names))
    found = await check_networks(config, link)
    await link.aclose()

    assert levels(found) == [("networks", "skipped")]
