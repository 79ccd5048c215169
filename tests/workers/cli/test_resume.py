"""``outgate resume`` of a tenant that its share of the pool's reputation holds, and how that is shown.

What operators have suspended: test_suspend.py.
"""

from pathlib import Path

import pytest

from relay.config import Rate
from relay.store.gate import Gates
from relay.store.keys import find_shard
from relay.store.queue import Store
from relay.store.share import Counts, Shares
from tests.kit.command import Desk, make_desk, note_site, post
from tests.kit.redis import Server

_SHARES = '[reputation.tenant]\nat_least = 10\nhold_unknown = 0.5\nslow_to = "1/d"\n'
_SLOWED = "unknown users 20 % of 1,000 in 1d: slowed at 10 %"
_HELD = "unknown users 65 % of 1,000 in 1d: held at 50 %"


@pytest.fixture
def desk(server: Server, tmp_path: Path) -> Desk:
    site = '[[site]]\nname = "big"\ndomains = ["y.test"]\n'
    return make_desk(tmp_path, server, tables=site + _SHARES)


@pytest.fixture
def shares(desk: Desk, store: Store) -> Shares:
    return Shares(store.link, desk.config.reputation.tenant)


async def test_status_shows_who_is_slowed_or_held(desk: Desk, shares: Shares) -> None:
    await shares.add("acme", Counts(1000, 650, 3, 1))
    await shares.add("globex", Counts(7))

    assert (await desk.ask("status"))["tenants"] == {
        "acme": {
            "state": "hold", "reason": _HELD,
            "tried": 1000, "unknown": 650, "content": 3, "complaints": 1,
        },
        "globex": {
            "state": "", "reason": "",
            "tried": 7, "unknown": 0, "content": 0, "complaints": 0,
        },
    }  # fmt: skip
    out = (await desk.call("status")).out
    assert f"held: tenant acme: {_HELD}\n" in out
    assert "globex" not in out


async def test_queues_and_explain_say_why(desk: Desk, store: Store, shares: Shares) -> None:
    await post(store, "bob@y.test", tenant="globex")
    message_id = await post(store, "bob@y.test")
    await shares.add("acme", Counts(1000, 650))

    rows = (await desk.ask("queues"))["queues"]
    (now,) = (await desk.ask("explain", message_id))["now"]

    (why,) = [row for row in rows if row["tenant"] == "acme"]
    for one in (why, now):
        assert (one["why"], one["opens"]) == ("tenant held", None)
        assert one["text"] == (
            f"its tenant is held: {_HELD}; until the share has fallen, "
            "or `outgate resume --tenant acme`"
        )
    assert [row["why"] for row in rows if row["tenant"] == "globex"] == ["unserved"]


async def test_queues_say_that_a_slow_tenant_waits_for_its_rate(
    desk: Desk, store: Store, shares: Shares
) -> None:
    gates = Gates(store.link, lease=60)
    await gates.announce("source:a", "pool:default")
    await post(store, "bob@y.test")
    await note_site(store, "big", "acme/y.test")
    shard = find_shard("y.test")
    (lane,) = await store.list_lanes(shard)
    await store.assign(shard, "acme/y.test", lane, "big")
    await shares.add("acme", Counts(1000, 200))
    await gates.charge_tenant("acme", [Rate(1, 86_400)], 1)

    (row,) = (await desk.ask("queues"))["queues"]

    assert row["why"] == "tenant rate"
    assert row["text"].startswith(
        f"rate of tenant acme is used up (its tenant is slowed: {_SLOWED}); opens in "
    )


async def test_who_is_named_begins_anew(desk: Desk, shares: Shares) -> None:
    await shares.add("acme", Counts(1000, 650))
    await shares.add("globex", Counts(1000, 200))

    done = await desk.call("resume", "--tenant", "acme", "--why", "list was cleaned")

    assert (done.status, done.out) == (0, f"resumed: tenant=acme ({_HELD})\n")
    states = await shares.read(["acme", "globex"])
    assert (states["acme"].state, states["acme"].counts) == ("", Counts())
    assert states["globex"].state == "slow"
    (event,) = desk.read_events("tenant-released")
    assert (event["tenant"], event["reason"]) == ("acme", _HELD)
    assert (event["who"].partition("@")[0], event["why"]) == ("ann", "list was cleaned")
    assert desk.read_events("resumed")[0]["suspensions"] == [f"tenant=acme ({_HELD})"]
    assert (await desk.call("resume", "--tenant", "acme")).status == 1


async def test_its_suspension_ends_with_it(desk: Desk, shares: Shares) -> None:
    await desk.ask("suspend", "--tenant", "acme")
    await shares.add("acme", Counts(1000, 200))

    done = await desk.ask("resume", "--tenant", "acme")

    assert done["resumed"] == ["tenant=acme", f"tenant=acme ({_SLOWED})"]


@pytest.mark.parametrize("words", [("--all",), ("--tenant", "acme", "--site", "big")])
async def test_nobody_else_is_forgiven(desk: Desk, shares: Shares, words: tuple[str, ...]) -> None:
    await desk.ask("suspend", *words)
    await shares.add("acme", Counts(1000, 650))

    assert len((await desk.ask("resume", *words))["resumed"]) == 1

    assert (await shares.read(["acme"]))["acme"].state == "hold"
