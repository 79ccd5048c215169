"""What belongs into outgate.toml, so that mail goes to the emulated providers."""

from collections.abc import Iterable, Iterator

from workers.emulation.providers.host import Host
from workers.emulation.providers.profile import Tls

# A certificate of an authority that nobody knows: TLS without a name check, or with --authority.
_LEVELS: dict[Tls, str] = {
    "none": "opportunistic",
    "offered": "opportunistic",
    "required": "require",
}


def describe_routes(hosts: Iterable[Host]) -> Iterator[str]:
    """Yield a [[site]] and a [[route]] for each host that has domains, as TOML."""
    for host in hosts:
        if not host.domains:
            continue
        domains = ", ".join(f'"{domain}"' for domain in host.domains)
        shown = f"[{host.host}]" if ":" in host.host else host.host
        yield (
            f'[[site]]\nname = "{host.name}"\ndomains = [{domains}]\n'
            f'tls = "{_LEVELS[host.provider.profile.tls]}"\n'
            f'[[route]]\ndomains = [{domains}]\nhosts = ["{shown}:{host.port}"]\n'
        )
