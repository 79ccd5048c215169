"""The room of a process: never less than none, half of it for the unproven, and who is rung for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from workers.desk import Desk
from workers.feeder import Feeder, Hands
from workers.room import Room


class Bell(Feeder):
    """A feeder that only counts how often it is rung."""

    def __init__(self, site: str) -> None:
        super().__init__("default", "", site, desk=cast("Desk", None), hands=cast("Hands", None))
        self.rung = 0

    def ring(self) -> None:
        self.rung += 1


@contextmanager
def claim(room: Room, count: int) -> Iterator[None]:
    """A claim that may bring so many is under way."""
    room.expect(count)
    yield
    room.expect(-count)


@pytest.mark.parametrize("proven", [True, False])
def test_there_is_never_less_than_no_room(proven: bool) -> None:
    """What a claim brings is held and still expected: a feeder would ask the gate for -10."""
    room = Room(20)
    with claim(room, 20):
        for _ in range(10):
            room.take(proven=proven)
        assert room.find(proven=proven) == 0
    assert room.find(proven=True) == 10


def test_who_is_not_proven_shares_half() -> None:
    room = Room(20)
    assert (room.find(proven=True), room.find(proven=False)) == (20, 10)
    for _ in range(4):
        room.take(proven=False)
    assert (room.find(proven=True), room.find(proven=False)) == (16, 6)
    for _ in range(15):
        room.take(proven=True)
    assert (room.find(proven=True), room.find(proven=False)) == (1, 1)
    room.leave(proven=False)
    assert (room.find(proven=True), room.find(proven=False)) == (2, 2)


def test_a_process_with_room_for_one_tries_the_unproven_too() -> None:
    assert Room(1).find(proven=False) == 1


def test_the_starving_are_rung_in_turn_as_many_as_find_some() -> None:
    room, bells = Room(40), [Bell(str(n)) for n in range(4)]
    for _ in range(40):
        room.take(proven=True)
    for bell in bells:
        room.starve(bell)
    room.leave(proven=True)
    assert [bell.rung for bell in bells] == [1, 0, 0, 0]
    with claim(room, 1):
        room.starve(bells[0])  # it found none after all: to the end of the line
    assert [bell.rung for bell in bells] == [1, 1, 0, 0]
    for _ in range(20):
        room.leave(proven=True)
    assert [bell.rung for bell in bells] == [2, 1, 1, 1]
