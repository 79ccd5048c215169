"""``outgate tls``: what a host shows of TLS, and what would become of mail to a domain."""

import argparse
import json
import re
from functools import partial

import msgspec
import trio

from relay.address import find_domain
from relay.config import Config, Endpoint, load
from relay.config.units import parse_endpoint
from workers.cli.tlspage import show_forecast, show_probed
from workers.hosts import is_address
from workers.tls.forecast import forecast
from workers.tls.probe import probe

_DEFAULT_PORT = 25
_NAME = re.compile(
    r"(?=.{1,253}\Z)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what is to be looked at."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "host",
        metavar="HOST[:PORT]",
        nargs="?",
        type=_read_host,
        help="check this host as strict senders do, Google's test of a route among them; "
        "[IPv6]:PORT; default port: 25",
    )
    what.add_argument(
        "--domain",
        metavar="NAME",
        type=_read_domain,
        help="tell what would become of mail to this domain, and why; nothing is sent",
    )
    parser.add_argument(
        "--name",
        metavar="NAME",
        type=_read_name,
        help="with HOST: the name that the certificate must be for (default: HOST)",
    )
    parser.add_argument(
        "--no-connect", action="store_true", help="with --domain: open no session with its hosts"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print what was found; exit 0 when the host would pass, or mail would go now, else 1."""
    config = load(arguments.config)
    if arguments.domain is not None:
        return _tell(config, arguments)
    place = arguments.host
    probed = trio.run(partial(probe, name=arguments.name or ""), config, place.host, place.port)
    if arguments.json:
        _print_json(probed)
    else:
        show_probed(probed)
    return 0 if probed.ok else 1


def _tell(config: Config, arguments: argparse.Namespace) -> int:
    connect = not arguments.no_connect
    found = trio.run(partial(forecast, connect=connect), config, arguments.domain)
    if arguments.json:
        _print_json(found)
    else:
        show_forecast(found)
    return 0 if found.verdict == "goes" else 1


def _print_json(found: msgspec.Struct) -> None:
    print(json.dumps(msgspec.to_builtins(found)))


def _read_host(text: str) -> Endpoint:
    plain = text.strip()
    is_bracketed = plain.startswith("[") and plain.endswith("]")
    try:
        return Endpoint(_read_name(plain[1:-1] if is_bracketed else plain), _DEFAULT_PORT)
    except argparse.ArgumentTypeError:
        pass
    try:
        place = parse_endpoint(plain)
        if place.port:
            return Endpoint(_read_name(place.host), place.port)
    except (ValueError, argparse.ArgumentTypeError):
        pass
    raise argparse.ArgumentTypeError(f"expected HOST, HOST:PORT or [IPv6]:PORT, got {text!r}")


def _read_name(text: str) -> str:
    if is_address(text):
        return text
    return _normalise(text)


def _read_domain(text: str) -> str:
    # An address literal is no name, but the answer to it is a worker's to give.
    text = text.strip().rpartition("@")[2]
    return text.lower() if text.startswith("[") and text.endswith("]") else _normalise(text)


def _normalise(text: str) -> str:
    """Return a name in A-labels (IDNA 2008)."""
    name = find_domain(b"@" + text.encode("utf-8", "surrogateescape"))
    if not name or not _NAME.fullmatch(name):
        raise argparse.ArgumentTypeError(f"expected a host name, got {text!r}")
    return name
