"""``outgate alive``: does a service on this machine work? For the health checks of containers.

Light, because it runs every half a minute: one connection, or one question to the store. It looks at
what this machine can mend by starting a service again, and at nothing else. So a worker whose store does
not answer is alive: starting all workers again would not bring the store back, and what they have in
hand would be tried twice.
"""

import argparse
import ipaddress
import platform
import sys
from collections.abc import Awaitable, Callable

import trio

from relay.config import Config, Endpoint, load
from relay.config.units import parse_network
from relay.errors import OutgateError, PeerClosed, StoreError, StoreUnavailable
from relay.net.connect import connect
from relay.store.counters import GONE, Books
from relay.store.embedded import find_url
from relay.store.opening import make_link

_PATIENCE = 5.0  # s, for each service
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "localhost": "127.0.0.1"}  # noqa: S104


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the service."""
    parser.add_argument(
        "service",
        nargs="?",
        choices=tuple(_CHECKS),
        help="look at this one only (default: all that `outgate up` runs)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Say what does not work; exit 1 when something does not."""
    config = load(arguments.config)
    names = [arguments.service] if arguments.service else _list_services(config)
    problems = trio.run(_look, config, names)
    for problem in problems:
        print(f"outgate: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _list_services(config: Config) -> list[str]:
    return [name for name in _CHECKS if name != "admin" or config.admin.enabled]


async def _look(config: Config, names: list[str]) -> list[str]:
    """Return what is wrong, a line each."""
    problems = []
    for name in names:
        try:
            with trio.fail_after(_PATIENCE):
                await _CHECKS[name](config)
        except trio.TooSlowError:
            problems.append(f"{name}: does not answer within {_PATIENCE:g} s")
        except OutgateError as error:
            problems.append(f"{name}: {error}")
    return problems


class _NotAliveError(OutgateError):
    """It answers, and not as it should; or there is none."""


async def _look_at_ingress(config: Config) -> None:
    """It greets. "421" counts, too: who is crowded is alive."""
    address, port = _find_near(config.ingress.listen[0])
    stream = await connect(address, port, source="::" if ":" in address else "0.0.0.0")  # noqa: S104
    try:
        if _is_balancer(config, address):
            await stream.send(b"PROXY UNKNOWN\r\n")  # from us it expects whose connection this is
        greeting = await stream.receive()
        if not greeting.startswith((b"220", b"421")):
            raise _NotAliveError(f"greets with {greeting[:80]!r}, expected 220")
        await stream.send(b"QUIT\r\n")
    except PeerClosed as error:
        raise _NotAliveError(f"hangs up: {error}") from error
    finally:
        stream.close()


async def _look_at_worker(config: Config) -> None:
    """One on this machine has told lately how it is. Without a store nobody can tell."""
    link = make_link(find_url(config), timeout=_PATIENCE)
    try:
        found = await Books(link).read_gauges()
    except (StoreUnavailable, StoreError) as error:
        print(f"outgate: worker: {error}; nobody can say more without the store", file=sys.stderr)
        return
    finally:
        await link.aclose()
    here = platform.node()
    if not any((service, host) == ("worker", here) for service, host, _ in found):
        raise _NotAliveError(f"none on {here} has given a sign of life for {GONE:g} s")


async def _look_at_admin(config: Config) -> None:
    """It says so itself."""
    import httpx2  # the others do without, and it takes its time to load

    address, port = _find_near(config.admin.listen[0])
    host = f"[{address}]" if ":" in address else address
    try:
        async with httpx2.AsyncClient(trust_env=False, timeout=_PATIENCE) as client:
            answer = await client.get(f"http://{host}:{port}/healthz")
    except httpx2.HTTPError as error:
        said = str(error) or type(error).__name__
        raise _NotAliveError(f"does not answer on {host}:{port}: {said}") from error
    if answer.status_code != 200:
        raise _NotAliveError(f"answers {answer.status_code} to GET /healthz, expected 200")


def _find_near(endpoint: Endpoint) -> tuple[str, int]:
    """Return where this machine reaches what it listens on."""
    return _ANYWHERE.get(endpoint.host, endpoint.host), endpoint.port


def _is_balancer(config: Config, address: str) -> bool:
    """Tell whether a connection from here is taken for a balancer's: it comes from where it goes to."""
    try:
        peer = ipaddress.ip_address(address)
    except ValueError:  # it listens on a name
        return False
    return any(peer in parse_network(network) for network in config.ingress.proxies)


_CHECKS: dict[str, Callable[[Config], Awaitable[None]]] = {
    "ingress": _look_at_ingress,
    "worker": _look_at_worker,
    "admin": _look_at_admin,
}
