"""A mix: which providers there are, who sends from where, and how much. A TOML file.

It is a file of `outgate emulate` with more in it: every file of that is a mix, with three sources and
demand at four fifths of what the providers take. What ships is in ``mixes``.
"""

import importlib.resources
import math
from collections.abc import Callable
from pathlib import Path

import msgspec

from relay.config import Config, read
from relay.config.document import check, naming, parse, refuse
from relay.config.schema import Reputation, Warmup
from relay.config.section import Section
from relay.config.units import Seconds
from relay.errors import ConfigError
from workers.emulation.providers.profile import Profile
from workers.simulation.agenda import START

POOL = "pool"
_SHARE = 0.8  # of what is taken, where nobody says how much there is
_UNLIMITED = 1.0  # deliveries/s from an address where nothing limits them


class OurSource(Section, frozen=True):
    """One of our addresses."""

    name: str
    address: str
    warmup: str = ""  # as in the configuration
    weight: int = 1


class Demand(Section, frozen=True):
    """How much there is for one provider: a daily curve, and chance."""

    provider: str
    daily: int  # messages, on average
    swing: float = 0.6  # how far the curve goes above and below the average, 0 to 1
    peak: float = 14.0  # hour of the day (UTC)
    people: int = 20_000  # different recipients


class OurTenant(Section, frozen=True):
    """Somebody whose mail it is."""

    name: str
    share: float = 1.0  # of all messages, in proportion
    domain: str = ""  # of its senders; default: <name>.example


class Mix(Section, frozen=True):
    """The whole file."""

    about: str = ""
    lasts: Seconds = Seconds(86400)
    workers: int = 2
    source: tuple[OurSource, ...] = tuple(
        OurSource(f"s{n}", f"192.0.2.{10 * n}") for n in (1, 2, 3)
    )
    tenant: tuple[OurTenant, ...] = (OurTenant("acme"), OurTenant("globex"))
    provider: tuple[Profile, ...] = ()
    demand: tuple[Demand, ...] = ()
    reputation: Reputation = Reputation()
    warmup: dict[str, Warmup] = {}  # noqa: RUF012 - msgspec copies it


def list_mixes() -> list[str]:
    """Return the names of the mixes that ship."""
    folder = importlib.resources.files("workers.simulation") / "mixes"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name[0] != "_")


def load_mix(name: str) -> Mix:
    """Return one that ships. Raises ConfigError."""
    if name not in list_mixes():
        raise ConfigError([f"no mix {name!r}; there is {', '.join(list_mixes())}"])
    file = importlib.resources.files("workers.simulation") / "mixes" / f"{name}.toml"
    with naming(f"mixes/{name}.toml"):
        return _read(lambda: file.read_text("utf-8"))


def read_mix(path: str) -> Mix:
    """Read one from a file. Raises ConfigError."""
    with naming(path):
        return _read(lambda: Path(path).read_text("utf-8"))


def _read(text: Callable[[], str]) -> Mix:
    document = parse(text)
    # Of `outgate emulate` alone.
    for key in ("seed", "feedback"):
        document.pop(key, None)
    mix = check(document, Mix)
    mix = msgspec.structs.replace(mix, demand=mix.demand or _guess_demand(mix))
    refuse(_find_problems(mix))
    return mix


def _find_problems(mix: Mix) -> list[str]:
    names = [profile.name for profile in mix.provider]
    problems = [] if names else ["provider: expected at least one [[provider]]"]
    problems += [f"provider: {name} is there twice" for name in {*names} if names.count(name) > 1]
    if not 1 <= mix.workers <= 64:
        problems.append(f"workers: expected 1 to 64, got {mix.workers}")
    if mix.lasts < 60:
        problems.append("lasts: expected a minute or more")
    if not mix.source or not mix.tenant:
        problems.append("expected at least one [[source]] and one [[tenant]]")
    for number, demand in enumerate(mix.demand):
        if demand.provider not in names:
            problems.append(f"demand[{number}].provider: no [[provider]] is called that")
        if demand.daily < 1 or demand.people < 1 or not 0 <= demand.swing <= 1:
            problems.append(f"demand[{number}]: daily and people from 1, swing from 0 to 1")
    return problems


def _guess_demand(mix: Mix) -> tuple[Demand, ...]:
    demands = []
    for profile in mix.provider:
        each = _UNLIMITED
        if profile.rate is not None:
            each = min(rate.count / rate.seconds for rate in profile.rate.windows)
        if profile.allowance is not None:
            each = min(each, profile.allowance.maximum / 86400)
        daily = max(1, math.floor(each * 86400 * len(mix.source) * _SHARE))
        demands.append(Demand(profile.name, daily))
    return tuple(demands)


def make_config(mix: Mix, *, loop: bool) -> Config:
    """Return the configuration of the gateway that sends in this mix. Raises ConfigError.

    ``loop``: with the control loop; else what is configured holds, and nothing learns.
    """
    document: dict[str, object] = {
        "source": [
            {"name": s.name, "address": s.address} | ({"warmup": s.warmup} if s.warmup else {})
            for s in mix.source
        ],
        "pool": {POOL: {s.name: s.weight for s in mix.source}},
        "warmup": {
            name: {"days": list(one.days), "spoilt": one.spoilt, "idle": float(one.idle)}
            for name, one in mix.warmup.items()
        },
        "ingress": {"hostname": "gateway.example"},
    }
    config = read(document, base=Path("/nonexistent"), environment={})
    reputation = msgspec.structs.replace(mix.reputation, enabled=loop)
    return msgspec.structs.replace(config, reputation=reputation)


def end_of(mix: Mix) -> float:
    """Return when its time is over, seconds since 1970."""
    return START + mix.lasts
