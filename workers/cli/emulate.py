"""``outgate emulate``: providers on loopback, to send to without hurting anybody.

They have limits, memory and patience that ends (``workers.emulation.providers``); what they are
like stands in a file of its own, which ``-c`` names. Without it there are those of default.toml.
"""

import argparse
import json
import math
import ssl
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import trio

from relay.config.units import Seconds, parse_seconds
from relay.errors import ConfigError, StartError
from relay.net.tls import make_server_context
from relay.signals import wait_for_stop
from workers.cli.page import open_console
from workers.cli.receivers import open_display, render, to_json
from workers.emulation.authority import Authority
from workers.emulation.providers.host import Host
from workers.emulation.providers.postbox import Postbox
from workers.emulation.providers.routes import describe_routes
from workers.emulation.providers.settings import Settings, load_settings

_EVERY = Seconds(2)
_LEAST = 0.1  # seconds between two lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add how long, how often, and what chance begins with."""
    parser.add_argument(
        "--for", dest="duration", type=_read_span, metavar="SPAN", help="end by itself, e.g. 10m"
    )
    parser.add_argument(
        "--every",
        type=_read_span,
        default=_EVERY,
        metavar="SPAN",
        help="time between two lines, or pictures (default: 2s)",
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help="other chances than those of the file's seed"
    )
    parser.add_argument(
        "--authority",
        metavar="FILE",
        help="write the authority of their certificates there, for delivery.ca_file",
    )


def _read_span(text: str) -> Seconds:
    try:
        seconds = parse_seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if seconds < _LEAST:
        raise argparse.ArgumentTypeError(f"expected at least {_LEAST} s, got {text!r}")
    return seconds


def run(arguments: argparse.Namespace) -> int:
    """Run the providers until a signal, or until their time is over. Raises ConfigError, StartError."""
    settings = load_settings(arguments.config)
    for number, profile in enumerate(settings.provider):
        if not profile.domains:
            raise ConfigError([f"provider[{number}].domains: missing; mail goes by domain"])
    if arguments.seed is not None:
        settings = msgspec.structs.replace(settings, seed=arguments.seed)
    context = _make_context(settings, arguments.authority)
    emulation = Emulation(
        settings,
        context,
        duration=arguments.duration or math.inf,
        every=arguments.every,
        as_json=arguments.json,
    )
    trio.run(emulation.run)
    return 0


def _make_context(settings: Settings, file: str | None) -> ssl.SSLContext:
    """Make a certificate that all of them share; its authority lives as long as they do."""
    authority = Authority("outgate emulate authority")
    names = [f"mx.{profile.domains[0]}" for profile in settings.provider]
    hosts = {
        profile.listen.host if profile.listen else "127.0.0.1" for profile in settings.provider
    }
    if file is not None:
        try:
            Path(file).write_bytes(authority.certificate)
        except OSError as error:
            raise StartError(f"--authority {file}: {error.strerror}; name another file") from error
    with tempfile.TemporaryDirectory(prefix="outgate-emulate-") as directory:
        chain, key = authority.issue(*names, *sorted(hosts)).write(Path(directory), "providers")
        return make_server_context(str(chain), str(key))


@dataclass
class Emulation:
    """One run of all providers."""

    settings: Settings
    context: ssl.SSLContext
    duration: float
    every: float
    as_json: bool
    hosts: list[Host] = field(default_factory=list)

    async def run(self) -> None:
        """Serve until it is over, and say what was counted. Raises StartError."""
        try:
            self._open()
            self._began = trio.current_time()
            await self._serve()
        finally:
            for host in self.hosts:
                host.close()
        self._conclude()

    def _open(self) -> None:
        for number, profile in enumerate(self.settings.provider):
            try:
                host = Host(profile, self.context, seed=self.settings.seed + number)
            except StartError as error:
                text = str(error).replace("ingress.listen", f"provider[{number}].listen")
                raise StartError(text) from error
            self.hosts.append(host)

    async def _serve(self) -> None:
        self.postbox = (
            Postbox(self.settings.feedback, self.hosts, seed=self.settings.seed)
            if self.settings.feedback
            else None
        )
        self._introduce()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_for_stop, nursery.cancel_scope.cancel)
            for host in self.hosts:
                nursery.start_soon(host.serve)
            if self.postbox is not None:
                nursery.start_soon(self.postbox.run)
            with trio.move_on_after(self.duration):
                await self._report()
            nursery.cancel_scope.cancel()

    def _introduce(self) -> None:
        """Say where they are, in the words of outgate.toml: after this they take connections."""
        if self.as_json:
            return self._print_json("begun", routes="\n".join(describe_routes(self.hosts)))
        console = open_console()
        console.print("# For outgate.toml:")
        for text in describe_routes(self.hosts):
            console.print(text, markup=False, soft_wrap=True)
        return None

    async def _report(self) -> None:
        if self.as_json:
            return await self._repeat(lambda: self._print_json("counts"))
        with open_display(open_console(), self.hosts) as show:
            return await self._repeat(lambda: show(self._elapsed))

    async def _repeat(self, show: Callable[[], None]) -> None:
        while True:
            await trio.sleep(self.every)
            # Complaints are taken by whoever is told of them, or by nobody.
            if self.postbox is None:
                _forget_complaints(self.hosts)
            show()

    def _conclude(self) -> None:
        if self.as_json:
            self._print_json("ended")
        else:
            open_console().print(render(self.hosts, self._elapsed))

    def _print_json(self, event: str, **more: object) -> None:
        """Print a line; who reads it must not wait for the next one."""
        line = {"event": event, "elapsed": round(self._elapsed, 3), **more}
        if self.postbox is not None:
            line["reports"] = {
                "sent": self.postbox.sent,
                "waiting": len(self.postbox.waiting),
                "dropped": self.postbox.dropped,
            }
        print(json.dumps(line | {"providers": to_json(self.hosts)}), flush=True)

    @property
    def _elapsed(self) -> float:
        return trio.current_time() - self._began


def _forget_complaints(hosts: Sequence[Host]) -> None:
    for host in hosts:
        host.provider.take_complaints()
