"""The sections about reputation: what is refused, and what it is called."""

import tomllib
from pathlib import Path

import pytest

from relay.config import read
from relay.errors import ConfigError

_BASE = """
ingress.hostname = "g.example"
[[source]]
name = "a"
address = "192.0.2.1"
"""


def _problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(tomllib.loads(_BASE + text), base=Path("/"), environment={})
    return caught.value.problems


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('warmup = "fast"', "source[0].warmup: no [warmup] of that name; there is default"),
        ("[reputation]\nfloor = 1.5", "reputation.floor: expected 0 to 1, got 1.5"),
        ("[reputation]\nquarantine = []", "reputation.quarantine: expected at least one duration"),
        ("[reputation]\nprobes = 0", "reputation.probes: expected at least 1, got 0"),
        (
            "[reputation.tenant]\nhold_unknown = -1",
            "reputation.tenant.hold_unknown: expected 0 to 1",
        ),
        ("[warmup.x]\ndays = [20, 10]", "warmup.x.days: expected numbers above 0 that do not fall"),
        ("[warmup.x]\ndays = []", "warmup.x.days: expected 1 to 365 numbers, got 0"),
        ("[warmup.x]\ndays = [1]\nspoilt = 2", "warmup.x.spoilt: expected a share above 0"),
        ('[warmup.x]\ndays = [1]\nidle = "1h"', "warmup.x.idle: expected a day or more"),
        ('[feedback]\ndomains = ["a b"]', "feedback.domains[0]: expected a domain, got 'a b'"),
        ('[checks]\ngate = ["dnsbl"]', 'checks.gate: "dnsbl" needs zones in checks.dnsbl'),
        ('[checks]\ngate = ["ptr"]\ninterval = 0', "checks.gate: needs an interval"),
        ('[checks]\ninterval = "5s"', "checks.interval: expected 0 or at least 60 seconds"),
        ('[checks]\ndnsbl = ["a/b"]', "checks.dnsbl[0]: expected a zone, got 'a/b'"),
        ("[reputation]\nspeed = 1", "reputation.speed: unknown key"),
    ],
)
def test_problems_have_a_path(text: str, problem: str) -> None:
    assert any(line.startswith(problem) for line in _problems(text)), _problems(text)


def test_complaints_need_a_domain_of_their_own() -> None:
    tenant = '[[tenant]]\nname = "t"\ndomains = ["t.example"]\n'
    assert _problems(f'{tenant}[feedback]\ndomains = ["t.example"]') == [
        "feedback.domains[0]: t.example is a tenant's; complaints need a domain of their own"
    ]
