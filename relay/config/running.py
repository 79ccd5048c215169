"""Tables about running the gateway: who looks in, and what is written down."""

import ipaddress
from collections.abc import Iterator
from typing import Literal

from relay.config.section import Section
from relay.config.shapes import check_files
from relay.config.units import Endpoint, Octets, Seconds


class Admin(Section, frozen=True):
    """The dashboard, the HTTP interface and the metrics: `outgate admin`, and in `outgate up`."""

    enabled: bool = True  # false: `outgate up` runs without it
    # On other addresses than loopback's it wants a token.
    listen: tuple[Endpoint, ...] = (Endpoint("127.0.0.1", 8025),)
    # A token a line; all of them are valid, so that one can follow another. Needed to change anything
    # from elsewhere than this host, and to see anything there.
    token_file: str = ""
    # Messages can be searched for as long as this, as far as they fit into `max_index`.
    remember: Seconds = Seconds(7 * 86400)
    max_index: Octets = Octets(2 << 30)  # what the index may take on the disk
    # A trace of each message goes to this OTLP/HTTP receiver: "http://127.0.0.1:4318/v1/traces". It
    # names hosts, domains and replies, and nobody's address. Needs `pip install outgate[otel]`.
    traces: str = ""
    trace_share: float = 1.0  # of so many messages: 0.01 is one in a hundred


class Log(Section, frozen=True):
    """Where the event log goes: one JSON line for each thing that happened to a message."""

    events: str = ""  # a path or "stdout"; default: events.jsonl in state_dir
    # What services say to people, on standard error: "text", or "json", an object a line.
    format: Literal["text", "json"] = "text"


def find_running_problems(admin: Admin) -> Iterator[str]:
    """Yield what is wrong with [admin]: who can be reached from elsewhere wants a token."""
    yield from check_files("admin", token_file=admin.token_file)
    if admin.traces and not admin.traces.startswith(("http://", "https://")):
        yield f'admin.traces: {admin.traces!r}: expected a URL, "http://127.0.0.1:4318/v1/traces"'
    if not 0 <= admin.trace_share <= 1:
        yield f"admin.trace_share: {admin.trace_share}: expected 0 to 1"
    if not admin.listen:
        yield "admin.listen: expected at least one address; `enabled = false` does without"
    for number, endpoint in enumerate(admin.listen):
        if not admin.token_file and not _is_loopback(endpoint.host):
            yield (
                f"admin.listen[{number}]: {endpoint!r} can be reached from elsewhere: "
                "set admin.token_file (openssl rand -hex 32), or listen on 127.0.0.1"
            )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
