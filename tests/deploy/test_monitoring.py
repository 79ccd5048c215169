"""Prometheus, Grafana and the runbook: they speak of metrics that exist, and of each other's alerts."""

import argparse
import itertools
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.config import Config
from relay.store.queue import Store
from tests.kit.composed import find_mounts, read_composed
from workers.admin.metrics import Metrics
from workers.cli.main import _COMMANDS, build_parser

_DEPLOY = Path(__file__).parents[2] / "deploy"
_PROMETHEUS = _DEPLOY / "prometheus"
RULES = [
    rule
    for group in yaml.safe_load((_PROMETHEUS / "alerts.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
ALERTS = sorted({rule["alert"] for rule in RULES})
DASHBOARD: dict[str, Any] = json.loads((_DEPLOY / "grafana/dashboard.json").read_text("utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
RUNBOOK = (_DEPLOY / "RUNBOOK.md").read_text("utf-8")
_NAME = re.compile(r"\boutgate_[a-z_]+")


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    return found


def call(*words: str | Path, cwd: Path = _PROMETHEUS) -> str:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# -- Prometheus


def test_rules_and_configuration_are_prometheus(promtool: str) -> None:
    assert f"{len(RULES)} rules found" in call(promtool, "check", "rules", "alerts.yml")
    call(promtool, "check", "config", "--syntax-only", "prometheus.yml")


@pytest.mark.slow
def test_each_alert_comes_when_it_should_and_not_before(promtool: str) -> None:
    files = sorted(_PROMETHEUS.glob("alerts*_test.yml"))

    call(promtool, "test", "rules", *files)

    cases = [
        case
        for file in files
        for test in yaml.safe_load(file.read_text("utf-8"))["tests"]
        for case in test["alert_rule_test"]
    ]
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == set(ALERTS)
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == set(ALERTS)


def test_prometheus_asks_the_admin_service_with_its_token() -> None:
    (job,) = yaml.safe_load((_PROMETHEUS / "prometheus.yml").read_text("utf-8"))["scrape_configs"]
    services = read_composed()["services"]
    name = job["authorization"]["credentials_file"].removeprefix("/run/secrets/")

    assert job["static_configs"] == [{"targets": ["admin:8025"]}]
    assert name in services["prometheus"]["secrets"]
    assert f'up{{job="{job["job_name"]}"}}' in "".join(rule["expr"] for rule in RULES)


async def read_names(store: Store, config: Config) -> set[str]:
    """Return the names of all time series that the admin service shows."""
    names = set()
    for line in (await Metrics(store, config).render()).decode().splitlines():
        if line.startswith("# TYPE"):
            _, _, name, kind = line.split()
            endings = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
            names |= {name + ending for ending in endings}
    return names


async def test_what_alerts_and_dashboard_ask_for_exists(store: Store, config: Config) -> None:
    asked = set(_NAME.findall(" ".join(rule["expr"] for rule in RULES)))
    asked |= set(_NAME.findall(json.dumps(DASHBOARD)))

    assert asked - await read_names(store, config) == set()


async def test_tests_of_alerts_use_names_that_exist(store: Store, config: Config) -> None:
    text = "".join(file.read_text("utf-8") for file in _PROMETHEUS.glob("alerts*_test.yml"))
    series = {_NAME.match(found).group() for found in re.findall(r"series: '?(outgate_\w+)", text)}  # type: ignore[union-attr]

    assert series - await read_names(store, config) == set()


# -- the runbook


def test_alerts_and_runbook_know_each_other() -> None:
    entries = re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE)

    assert sorted(entries) == ALERTS
    for rule in RULES:
        assert rule["annotations"]["runbook"] == f"deploy/RUNBOOK.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("page", "ticket")


@pytest.mark.parametrize("alert", ALERTS)
def test_each_entry_says_how_urgent_it_is_where_to_look_and_what_to_do(alert: str) -> None:
    entry = RUNBOOK.partition(f"\n## {alert}\n")[2].partition("\n## ")[0]
    (severity,) = {rule["labels"]["severity"] for rule in RULES if rule["alert"] == alert}

    assert entry.startswith(f"*{severity}.* ")
    assert "\n- Look: " in entry
    assert "\n- Do: " in entry


_DOCUMENTS = (_DEPLOY / "RUNBOOK.md", _DEPLOY / "README.md")


def list_commands(text: str) -> list[str]:
    """Return what is shown to be typed: in back quotes, or a line of a block; without comments."""
    text = re.sub(r"^```\w*\n(.*?)^```$", r"\1", text, flags=re.DOTALL | re.MULTILINE)
    quoted = [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", text)]
    lines = [line.partition("   #")[0].strip() for line in text.splitlines()]
    found = (
        re.search(r"(?:^|-- |exec [a-z-]+ |run --rm [a-z-]+ )(outgate .+)$", one)
        for one in [*quoted, *lines]
    )
    return sorted({match[1] for match in found if match and "`" not in match[1]})


COMMANDS = sorted(set(itertools.chain(*(list_commands(p.read_text("utf-8")) for p in _DOCUMENTS))))


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_that_are_shown_are_understood(command: str) -> None:
    words = shlex.split(command.replace("ID", "01K9VZ8G5TQ4X7M2N3P6R8S900"))[1:]
    name = words[0]
    assert name in _COMMANDS

    try:
        build_parser().parse_args(words)
    except (SystemExit, argparse.ArgumentError):
        pytest.fail(f"{command}: is not understood")


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 20


@pytest.mark.parametrize("document", _DOCUMENTS, ids=lambda path: path.name)
def test_files_that_are_named_are_there(document: Path) -> None:
    text = document.read_text("utf-8")
    links = [link for link in re.findall(r"\]\(([^)#:]+)\)", text) if "://" not in link]
    folders = re.findall(r"apply -k (\S+)|\bsh (\S+\.sh)", text)
    named = [f"../{one}" for pair in folders for one in pair if one]

    assert [one for one in [*links, *named] if not (document.parent / one).exists()] == []


def test_overlays_that_the_document_lists_are_those_there_are() -> None:
    text = (_DEPLOY / "README.md").read_text("utf-8")
    table = text.partition("| overlay |")[2].partition("\n\n")[0]
    overlays = {path.name for path in (_DEPLOY / "kubernetes/overlays").iterdir()}

    assert set(re.findall(r"^\| `([a-z-]+)`", table, re.MULTILINE)) == overlays | {"base"}


# -- Grafana


def test_dashboard_is_laid_out() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_panels_have_titles_units_and_something_to_show() -> None:
    assert len(PANELS) > 20
    for panel in PANELS:
        assert panel["title"]
        assert panel["targets"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert all(target["legendFormat"] is not None for target in panel["targets"])


def test_what_panels_ask_is_the_language_of_prometheus(promtool: str, tmp_path: Path) -> None:
    asked = [target["expr"] for panel in PANELS for target in panel["targets"]]
    asked += [one["expr"] for one in DASHBOARD["annotations"]["list"]]
    rules = [
        {
            "record": f"panel:number_{number}",
            "expr": expr.replace("$__rate_interval", "5m").replace("$source", ".*"),
        }
        for number, expr in enumerate(asked)
    ]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))

    assert f"{len(asked)} rules found" in call(promtool, "check", "rules", file)


def test_variables_of_panels_are_there() -> None:
    names = {one["name"] for one in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w*)\}?", json.dumps(PANELS)))

    assert used == names


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    services = read_composed()["services"]
    mounts = find_mounts(services["grafana"])
    provisioning = _DEPLOY / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text("utf-8"))[
        "datasources"
    ]
    (provider,) = yaml.safe_load((provisioning / "dashboards/outgate.yml").read_text("utf-8"))[
        "providers"
    ]

    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in services
    assert mounts["/etc/grafana/provisioning"] == "./deploy/grafana/provisioning"
    folder = provider["options"]["path"]
    assert mounts[f"{folder}/outgate.json"] == "./deploy/grafana/dashboard.json"
