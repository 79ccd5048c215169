"""The limits at the door, in virtual time and without connections."""

import pytest
import trio
import trio.testing

from relay.config.schema import Ingress
from relay.config.units import Octets, Rate, Rates, Seconds
from relay.ingress.counts import Counts
from relay.ingress.crowd import Crowd, find_house, find_most_sockets, find_room
from tests.kit.guest import Guest


def make(*, connections: int = 10, of_client: int = 1000, room: int | None = None) -> Crowd:
    """Return a crowd where 192.0.2.x is in a tenant's networks."""
    ingress = Ingress(
        max_connections=connections,
        client_connections=of_client,
        client_handshakes=Rates((Rate(1, 60, 2),)),
        memory=Octets(1000),
        command_timeout=Seconds(300),
    )
    return Crowd(ingress, lambda client: client.startswith("192.0.2."), room=room)


def come(crowd: Crowd, client: str = "192.0.2.1") -> Guest | None:
    """Come as a newcomer does; None when turned away."""
    if not crowd.make_room(client):
        return None
    guest = Guest(client, idle_since=trio.current_time())
    crowd.enter(guest)
    return guest


def come_many(crowd: Crowd, count: int, client: str = "192.0.2.1") -> list[Guest]:
    guests = [come(crowd, client) for _ in range(count)]
    assert None not in guests
    return guests  # type: ignore[return-value]


async def test_a_newcomer_takes_the_place_of_a_stranger_first(
    autojump_clock: trio.testing.MockClock,
) -> None:
    crowd = make(connections=3)
    (known,) = come_many(crowd, 1)
    await trio.sleep(1)
    strangers = come_many(crowd, 2, "198.51.100.1")

    assert come(crowd) is not None

    assert [guest.gone for guest in (known, *strangers)] == [False, True, False]
    assert len(crowd) == 3
    assert crowd.take_counts() == Counts(idle=1)
    assert crowd.take_counts() == Counts()


async def test_nobody_at_work_makes_room_until_its_work_stands_still(
    autojump_clock: trio.testing.MockClock,
) -> None:
    crowd = make(connections=2)
    one, two = come_many(crowd, 2)
    one.open(trio.current_time())
    two.open(trio.current_time())

    assert come(crowd) is None
    assert crowd.counts == Counts(turned_away=1)

    await trio.sleep(31)
    one.received = 1 << 20
    assert come(crowd) is not None
    assert (one.gone, two.gone) == (False, True)
    assert crowd.counts == Counts(turned_away=1, slow=1)


async def test_who_cannot_go_just_now_stays() -> None:
    crowd = make(connections=1)
    (guest,) = come_many(crowd, 1)
    guest.deciding = True

    assert come(crowd) is None

    assert crowd.counts == Counts(turned_away=1)
    assert len(crowd) == 1


async def test_a_client_with_as_many_as_it_may_have_makes_room_for_itself() -> None:
    crowd = make(connections=10, of_client=2)
    (other,) = come_many(crowd, 1, "198.51.100.1")  # a stranger, idle, and not concerned
    one, two = come_many(crowd, 2)

    three = come(crowd)

    assert three is not None
    assert [guest.gone for guest in (other, one, two)] == [False, True, False]
    for guest in (two, three):
        guest.open(0)
        guest.received = 1 << 30
    assert come(crowd) is None
    assert come(crowd, "192.0.2.2") is not None
    crowd.leave(two)
    assert come(crowd) is not None


async def test_who_leaves_is_forgotten() -> None:
    crowd = make(connections=2, of_client=1)
    for _ in range(5):
        guest = come(crowd)
        assert guest is not None
        assert not guest.gone
        crowd.leave(guest)

    assert len(crowd) == 0
    assert crowd._clients == {}
    assert crowd._leaving == set()


async def test_only_so_many_leave_at_a_time() -> None:
    # They still have their sockets. Sixteen, and a quarter of the house.
    crowd = make(connections=8)
    guests = come_many(crowd, 8 + 18)
    assert sum(guest.gone for guest in guests) == 18

    assert come(crowd) is None

    crowd.leave(guests[0])
    assert come(crowd) is not None


async def test_who_is_new_has_less_patience_coming_when_the_house_is_nearly_full() -> None:
    crowd = make(connections=10)
    guests = come_many(crowd, 8)
    assert crowd.find_patience(guests[0]) == 300

    come_many(crowd, 1)
    guests[1].proven = True

    assert crowd.find_patience(guests[0]) == 10
    assert crowd.find_patience(guests[1]) == 300


async def test_handshakes_over_the_rate_are_refused_and_counted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    crowd = make()

    assert [crowd.may_shake_hands("192.0.2.1") for _ in range(3)] == [True, True, False]
    assert crowd.may_shake_hands("192.0.2.2")
    assert crowd.counts == Counts(handshakes=1)


async def test_memory_is_given_out_once() -> None:
    crowd = make()

    assert crowd.reserve(600)
    assert not crowd.reserve(401)
    assert crowd.reserve(400)
    crowd.release(1000)
    assert crowd.reserve(1000)
    assert crowd.counts == Counts(full=1)


async def test_there_can_be_less_room_than_is_configured() -> None:
    crowd = make(connections=10, room=1)
    (guest,) = come_many(crowd, 1)

    come_many(crowd, 1)

    assert guest.gone


@pytest.mark.parametrize("connections", [1, 3, 100, 2000, 10_000])
def test_room_and_sockets_agree(connections: int) -> None:
    ingress = Ingress(max_connections=connections)
    sockets = find_most_sockets(ingress)

    assert find_room(ingress, sockets) == connections
    assert find_room(ingress, 10 * sockets) == connections
    assert find_room(ingress, sockets // 2) <= max(1, connections // 2)
    assert find_room(ingress, 0) == 1


# -- what operators are told


def test_nothing_happened_nothing_is_said() -> None:
    assert list(Counts().tell("minute")) == []


def test_what_happened_is_told_with_the_setting() -> None:
    assert list(Counts(turned_away=12, idle=40).tell("minute")) == [
        (
            "too many connections: 12 turned away, 40 idle ones closed in the last minute "
            "(ingress.max_connections, ingress.client_connections)"
        )
    ]
    lines = list(Counts(slow=1, handshakes=2, full=3, headers=4).tell("minute"))
    assert [line for line in lines if "0 turned away, 1 slow ones closed" in line] == lines[:1]
    assert [line.rpartition("ingress.")[2][:7] for line in lines[1:]] == [
        "client_", "memory)", "proxies",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("client", "house"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2::3", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::3", "2001:db8:1:3::/64"),
        ("::1", "::/64"),
    ],
)
def test_addresses_of_one_ipv6_network_are_one_client(client: str, house: str) -> None:
    assert find_house(client) == house
