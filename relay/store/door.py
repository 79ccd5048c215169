"""Doors: how a connection to the store is made, by what its URL says of it.

    one server      connect
    Sentinels       ask them who is master, connect, ask it whether it is
    a Cluster       connect to any of its nodes that is well: for who listens, not for commands

A door is asked again for each connection, so a new master is found by who has lost the old one.
"""

from collections.abc import Mapping
from typing import Protocol

import trio
from redis.connection import AbstractConnection

from relay.config.storeurl import StoreAddress, read_store_url
from relay.store.chart import read_chart
from relay.store.scripts import Script
from relay.store.sentinel import find_master
from relay.store.wire import Wire, make_pool, open_connection


class Door(Protocol):
    """Makes connections."""

    def open(self, scripts: Mapping[str, Script]) -> AbstractConnection:
        """Connect, with these scripts loaded; blocks. Raises redis.RedisError, OSError."""


class PlainDoor:
    """To one server."""

    def __init__(self, url: str, timeout: float) -> None:
        """Raises ValueError for a bad URL."""
        self._pool = make_pool(url, timeout)

    def open(self, scripts: Mapping[str, Script]) -> AbstractConnection:
        """See Door."""
        return open_connection(self._pool, scripts)


class SentinelDoor:
    """To whom the Sentinels call the master."""

    def __init__(self, address: StoreAddress, timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        make_pool(address.make_url(address.hosts[0]), timeout)  # a bad option is heard of now

    def open(self, scripts: Mapping[str, Script]) -> AbstractConnection:
        """See Door. A server that was demoted and does not know it yet can still be met."""
        url = self._address.make_url(find_master(self._address, self._timeout))
        return open_connection(make_pool(url, self._timeout), scripts, master=True)


class ClusterDoor:
    """To any master of a Cluster: what is published on one is heard on all."""

    def __init__(self, address: StoreAddress, timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        make_pool(address.make_url(address.hosts[0]), timeout)

    def open(self, scripts: Mapping[str, Script]) -> AbstractConnection:
        """See Door."""
        chart = read_chart(self._address, self._timeout)
        url = self._address.make_url(chart.masters[0])
        return open_connection(make_pool(url, self._timeout), scripts)


def make_door(url: str, timeout: float) -> Door:
    """Return the door to a store. Raises ValueError for a bad URL."""
    address = read_store_url(url)
    if address.kind == "sentinel":
        return SentinelDoor(address, timeout)
    if address.kind == "cluster":
        return ClusterDoor(address, timeout)
    return PlainDoor(url, timeout)


async def open_wire(door: Door, scripts: Mapping[str, Script]) -> Wire:
    """Connect, with scripts loaded. Raises redis.RedisError, OSError."""
    return Wire(await trio.to_thread.run_sync(door.open, scripts, abandon_on_cancel=True))
