import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.model import make_message_id, read_home
from relay.store.keys import (
    SHAPES,
    SHARDS,
    SHUT,
    Lane,
    Queue,
    find_shard,
    make_key,
    make_queue,
    make_tag,
    read_lane,
    read_queue,
)
from relay.store.queue import Store
from relay.store.scripts import SCRIPTS
from tests.kit.messages import EVENT, Claims, find_domains, make_deliveries, put
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
    body = re.sub(r"(?m)^local function \w+_key\(.*$", "", source)
    allowed = {"TAG .. ':'", "TAG .. ' '"}  # the two ledgers, the news
    assert set(re.findall(r"TAG \.\. '[^']*'", body)) <= allowed
    assert not re.search(r"og[0-9]", body)


name = st.from_regex(r"[a-z][a-z0-9_.-]{0,9}", fullmatch=True)
domain = st.one_of(name, st.just("[ipv6:2001:db8::1]"), st.just("xn--bcher-kva.example"))
pin = st.one_of(st.just(""), name)


@given(name, domain, st.sampled_from(["", "urgent", "bulk"]), pin)
def test_queue_is_read_as_it_was_made(tenant: str, domain: str, priority: str, source: str) -> None:
    queue = Queue(tenant, domain, priority, source)
    assert read_queue(make_queue(*queue)) == queue


@given(name, pin, st.sampled_from(["urgent", "normal", "bulk"]), name, st.text("a./@[]:-!"))
def test_lane_is_read_as_the_scripts_make_it(
    pool: str, source: str, priority: str, tenant: str, site: str
) -> None:
    text = f"{pool}{'@' if source else ''}{source}/{priority}/{tenant}/{site}"
    assert read_lane(text) == Lane(pool, source, priority, tenant, site)


@pytest.mark.parametrize("priority", ["", "urgent", "bulk"])
@pytest.mark.parametrize("source", ["", "b"])
@pytest.mark.parametrize("site", ["", "mx.example/x@y", SHUT])
async def test_scripts_find_the_lane_of_a_queue(
    store: Store, claims: Claims, priority: str, source: str, site: str
) -> None:
    """The scripts take queues' names apart as well; both must see the same."""
    domain = "urgent.bulk.test"
    shard = find_shard(domain)
    await put(store, 1, domain, priority=priority)
    await store.defer(await claims.take_one(domain), EVENT, wait=0, source=source)
    (lane,) = await store.list_lanes(shard)
    await store.assign(shard, make_queue("acme", domain, priority, source), lane, site)

    (lane,) = await store.list_lanes(shard)

    assert read_lane(lane) == Lane("default", source, priority or "normal", "acme", site)


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
