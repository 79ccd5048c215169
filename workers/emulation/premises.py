"""What the demo puts on disk: a directory with certificates and a configuration file.

The file is an ordinary one: with it, ``outgate up`` runs the same gateway.
"""

import contextlib
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from relay.config.running import Admin
from relay.net.tls import make_client_context, make_server_context
from workers.emulation.authority import Authority
from workers.emulation.internet import SENDER_DOMAIN
from workers.emulation.receiver import Receiver

HOSTNAME = f"gateway.{SENDER_DOMAIN}"
_LOOPBACK = "127.0.0.1"

_HEAD = """\
# Written by `outgate demo`. The same gateway runs with:  outgate up -c {path}
state_dir = "state"

[ingress]
listen = ["{loopback}:{port}"]
hostname = "{hostname}"
[ingress.tls]
certificate = "tls/gateway.pem"
key = "tls/gateway.key"
required = true

[[tenant]]
name = "acme"
domains = ["{domain}"]
networks = ["127.0.0.0/8"]

[reputation]
enabled = false              # learning what the moody host is about takes longer than a demo

[admin]
{admin}

[checks]
interval = 0                 # nobody on the real internet knows these sources

[delivery]
ca_file = "tls/authority.pem"
retry = ["1s", "2s"]         # minutes and hours on the real internet
grace = "5s"

# Three sources; of ten messages the first sends five, the second three, the third two.
"""
_WITHOUT = (
    "enabled = false              # take this out for the dashboard, at http://127.0.0.1:8025/"
)
_SOURCE = """\

[[source]]
name = "{name}"
address = "{address}"
ehlo = "{ehlo}"
"""
_SITE = """\

[[site]]
name = "{name}"
domains = [{domains}]
tls = "{tls}"
[[route]]
domains = [{domains}]
hosts = ["{host}:{port}"]
"""


@dataclass(frozen=True, slots=True)
class DemoSource:
    """One of the gateway's addresses, and its weight in the pool."""

    name: str
    address: str
    weight: int

    @property
    def ehlo(self) -> str:
        """The name that it says in EHLO."""
        return f"{self.name}.out.{SENDER_DOMAIN}"


def choose_sources() -> tuple[DemoSource, ...]:
    """Return three sources, on addresses of their own where this machine has them.

    All of 127.0.0.0/8 is the machine itself on Linux; macOS has 127.0.0.1 only.
    """
    weights = {"a": 5, "b": 3, "c": 2}
    addresses = [f"127.0.0.{number}" for number in (11, 12, 13)]
    if not all(map(_can_bind, addresses)):
        addresses = [_LOOPBACK] * 3
    return tuple(
        DemoSource(name, address, weight)
        for (name, weight), address in zip(weights.items(), addresses, strict=True)
    )


def _can_bind(address: str) -> bool:
    with contextlib.suppress(OSError), socket.socket() as probe:
        probe.bind((address, 0))
        return True
    return False


@dataclass(frozen=True, slots=True)
class Premises:
    """The directory. ``port``: where the gateway will listen."""

    directory: Path
    port: int

    @property
    def configuration(self) -> Path:
        """The configuration file."""
        return self.directory / "outgate.toml"

    @property
    def log(self) -> Path:
        """What the gateway says to people."""
        return self.directory / "gateway.log"

    @property
    def sender_context(self) -> ssl.SSLContext:
        """TLS as a sender that insists on a valid certificate does it."""
        return make_client_context(verify=True, ca_file=str(self._tls / "authority.pem"))

    @property
    def receiver_context(self) -> ssl.SSLContext:
        """TLS for the emulated receivers."""
        return make_server_context(
            str(self._tls / "receivers.pem"), str(self._tls / "receivers.key")
        )

    @property
    def _tls(self) -> Path:
        return self.directory / "tls"

    def write_configuration(
        self,
        receivers: Iterable[Receiver],
        sources: Iterable[DemoSource],
        *,
        dashboard: int | None = None,
    ) -> None:
        """Write outgate.toml; ``dashboard``: the port where it is, None: without."""
        parts = [
            _HEAD.format(
                path=self.configuration,
                loopback=_LOOPBACK,
                port=self.port,
                hostname=HOSTNAME,
                domain=SENDER_DOMAIN,
                admin=_WITHOUT if dashboard is None else f'listen = ["{_LOOPBACK}:{dashboard}"]',
            )
        ]
        parts += [_SOURCE.format(name=s.name, address=s.address, ehlo=s.ehlo) for s in sources]
        weights = "".join(f"{source.name} = {source.weight}\n" for source in sources)
        parts.append(
            f"\n[pool.default]\n{weights}\n# The emulated internet, by route instead of MX look-up\n"
        )
        parts += [_describe_receiver(receiver) for receiver in receivers]
        self.configuration.write_text("".join(parts))


def make_premises(directory: Path) -> Premises:
    """Make certificates in an empty directory, and choose a port."""
    tls = directory / "tls"
    tls.mkdir(mode=0o700)
    authority = Authority("outgate demo authority")
    (tls / "authority.pem").write_bytes(authority.certificate)
    authority.issue(HOSTNAME, _LOOPBACK).write(tls, "gateway")
    authority.issue("mx.test", _LOOPBACK).write(tls, "receivers")
    return Premises(directory, _find_port())


def choose_dashboard() -> int:
    """Return the dashboard's usual port, or another if that is taken."""
    usual = Admin().listen[0].port
    try:
        return _find_port(usual)
    except OSError:
        return _find_port()


def _find_port(wanted: int = 0) -> int:
    """Return a port that is free now; nothing else on the machine is likely to take it at once."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((_LOOPBACK, wanted))
        port: int = probe.getsockname()[1]
        return port


def _describe_receiver(receiver: Receiver) -> str:
    return _SITE.format(
        name=receiver.domains[0].partition(".")[0],
        domains=", ".join(f'"{domain}"' for domain in receiver.domains),
        tls="verify" if receiver.behaviour.starttls else "opportunistic",
        host=receiver.host,
        port=receiver.port,
    )
