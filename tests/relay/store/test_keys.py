import re

import pytest

from relay.model import make_message_id, read_home
from relay.store.keys import SHAPES, SHARDS, find_shard, make_key, make_queue, make_tag
from relay.store.queue import Store
from relay.store.scripts import SCRIPTS
from tests.kit.messages import EVENT, Claims, find_domains, make_deliveries
from tests.kit.redis import Server


def test_shards_never_change() -> None:
    """Queued mail of an earlier version must be found: these values are for ever."""
    assert SHARDS == 16
    domains = ["example.com", "gmail.com", "xn--bcher-kva.example", "a.test", ""]
    assert [find_shard(domain) for domain in domains] == [9, 15, 6, 9, 0]


def test_every_shard_is_used() -> None:
    assert {find_shard(domain) for domain in find_domains(SHARDS)} == set(range(SHARDS))


def test_message_id_leads_to_its_home() -> None:
    assert [read_home(make_message_id(shard)) for shard in range(SHARDS)] == list(range(SHARDS))


def test_key_begins_with_its_hash_tag() -> None:
    assert make_key(7, "body", "ID", 3) == "{og7}:body:ID:3"
    assert make_key(0, "ready", make_queue("acme", "a.test")) == "{og0}:ready:acme/a.test"
    assert make_tag(15) == "{og15}"


@pytest.mark.parametrize("name", SHAPES)
def test_key_with_the_wrong_number_of_parts(name: str) -> None:
    with pytest.raises(AssertionError):
        make_key(0, name, *["x"] * (SHAPES[name] + 1))


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_makes_its_keys_with_the_functions(name: str) -> None:
    """No script spells a key out: the shapes in keys.py are all that there are."""
    source = SCRIPTS[name].source.decode()
    body = source.partition("local call = redis.call")[2]
    assert set(re.findall(r"TAG \.\. '[^']*'", body)) <= {"TAG .. ':'"}  # the two ledgers
    assert not re.search(r"og[0-9]", body)


async def test_keys_in_use_are_those_in_the_table(server: Server, store: Store) -> None:
    here, there = find_domains(2)
    claims = Claims(store)
    await store.accept(make_deliveries(here, there), EVENT, b"hello")
    await store.defer(await claims.take_one(here), EVENT, wait=60)
    await claims.take_one(there)
    await claims.take(there)
    await store.reclaim(find_shard(here))
    with server.client() as client:
        for key in client.scan_iter():
            tag, name, *parts = key.decode().split(":", 2)
            assert re.fullmatch(r"\{og([0-9]|1[0-5])\}", tag)
            assert name in SHAPES
            assert bool(parts) == bool(SHAPES[name])
