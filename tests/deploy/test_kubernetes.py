"""The manifests for Kubernetes: valid, locked up, and all that refers to something finds it."""

import ipaddress
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from relay.config import Config, load
from relay.store.binary import find_binary
from tests.kit.kustomized import (
    KUBERNETES,
    Object,
    covers,
    find_missing,
    find_pods,
    list_secrets,
    pick,
    render,
)
from tests.kit.ports import find_free_port
from workers.cli.main import _COMMANDS, build_parser, main

pytestmark = pytest.mark.skipif(bool(find_missing()), reason=find_missing() or "")

FOLDERS = {
    path.name: path for path in (KUBERNETES / "base", *sorted((KUBERNETES / "overlays").iterdir()))
}
# The oldest that some cloud still runs, and what is newest here.
_VERSIONS = ("1.30", "1.37")
_OURS = ("ingress", "worker", "admin")
each_folder = pytest.mark.parametrize("name", FOLDERS)


def render_named(name: str) -> tuple[Object, ...]:
    return render(FOLDERS[name])


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the folder of secrets, with what its script makes."""
    folder = tmp_path_factory.mktemp("kubernetes") / "secrets"
    shutil.copytree(
        KUBERNETES / "secrets",
        folder,
        ignore=shutil.ignore_patterns("tls.*", "token", "url", "auth.*"),
    )
    subprocess.run(["sh", folder / "make-secrets.sh"], check=True, capture_output=True)
    return folder


def read_config(objects: tuple[Object, ...], base: Path, secrets: Path) -> Path:
    """Write the configuration of the pods, with their paths as they are here; return the file."""
    (config,) = pick(objects, "ConfigMap").values()
    text = config["data"]["outgate.toml"]
    for there, here in (
        ("tls/tls.crt", "tls.crt"),
        ("tls/tls.key", "tls.key"),
        ("admin/token", "token"),
    ):
        assert f'"/etc/outgate/{there}"' in text
        text = text.replace(f"/etc/outgate/{there}", str(secrets / here))
    file = base / "outgate.toml"
    file.write_text(text.replace("/var/lib/outgate", str(base / "state")))
    return file


@pytest.fixture
def config(name: str, secrets: Path, tmp_path: Path) -> Config:
    return load(str(read_config(render_named(name), tmp_path, secrets)), environment={})


# -- each object


@each_folder
@pytest.mark.parametrize("version", _VERSIONS)
def test_objects_are_those_of_the_api(name: str, version: str) -> None:
    checked = 0
    for one in render_named(name):
        if "cni.cncf.io" not in one["apiVersion"]:  # a definition that Multus brings along
            kubernetes_validate.validate(one, version, strict=True)
            checked += 1
    assert checked > 15


def test_a_mistake_would_be_found() -> None:
    (pod, *_) = pick(render_named("base"), "StatefulSet").values()
    wrong = json.loads(json.dumps(pod))
    wrong["spec"]["template"]["spec"]["containers"][0]["imagee"] = "x"

    with pytest.raises(kubernetes_validate.ValidationError, match="imagee"):
        kubernetes_validate.validate(wrong, _VERSIONS[0], strict=True)


@each_folder
def test_nobody_is_root_or_can_become_it(name: str) -> None:
    for who, pod in find_pods(render_named(name)).items():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] >= 100
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, who
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
            assert {"startupProbe", "livenessProbe"} <= container.keys()
            assert re.search(r":v?\d+\.\d+", container["image"])


@each_folder
def test_only_pods_in_their_nodes_network_need_more_than_restricted(name: str) -> None:
    objects = render_named(name)
    (namespace,) = pick(objects, "Namespace").values()
    level = namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]

    outside = any(pod["spec"].get("hostNetwork") for pod in find_pods(objects).values())
    assert level == ("privileged" if outside else "restricted")
    assert outside == (name == "hostnetwork")


# -- what refers to what


@each_folder
def test_selectors_find_their_pods(name: str) -> None:
    objects = render_named(name)
    pods = find_pods(objects)
    for kind, maker in pick(objects, "Deployment", "StatefulSet").items():
        labels = maker["spec"]["template"]["metadata"]["labels"]
        assert covers(maker["spec"]["selector"], labels), kind
    found = {
        who: [
            n
            for n, pod in pods.items()
            if covers(one["spec"]["selector"], pod["metadata"]["labels"])
        ]
        for who, one in pick(objects, "Service", "PodDisruptionBudget").items()
    }
    assert all(names == [who.partition("/")[2]] for who, names in found.items()), found


@each_folder
def test_ports_are_there(name: str) -> None:
    objects = render_named(name)
    pods = find_pods(objects)
    for service in pick(objects, "Service").values():
        named = _list_ports(pods[service["metadata"]["name"]])
        assert {port["targetPort"] for port in service["spec"].get("ports", ())} <= named.keys()
    for pod in pods.values():
        named = _list_ports(pod)
        for container in pod["spec"]["containers"]:
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                one = container.get(probe, {})
                for way in ("tcpSocket", "httpGet"):
                    assert way not in one or one[way]["port"] in named


def _list_ports(pod: Object) -> dict[str, int]:
    return {
        port["name"]: port["containerPort"]
        for container in pod["spec"]["containers"]
        for port in container.get("ports", ())
    }


@each_folder
def test_volumes_configuration_and_secrets_are_there(name: str, secrets: Path) -> None:
    objects = render_named(name)
    made = {
        one["metadata"]["name"]: one.get("data", {})
        for one in pick(render(secrets), "Secret").values()
    }
    claims, maps = pick(objects, "PersistentVolumeClaim"), pick(objects, "ConfigMap")
    templates = {
        claim["metadata"]["name"]
        for one in pick(objects, "StatefulSet").values()
        for claim in one["spec"].get("volumeClaimTemplates", ())
    }
    for pod in find_pods(objects).values():
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", ())}
        for volume in volumes.values():
            assert "configMap" not in volume or volume["configMap"]["name"] in maps
            claim = volume.get("persistentVolumeClaim")
            assert claim is None or claim["claimName"] in claims
        for container in pod["spec"]["containers"]:
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted == volumes.keys() | (mounted & templates)
        for secret, key in list_secrets(pod):
            assert secret in made
            assert not key or key in made[secret]


@each_folder
def test_policies_are_about_somebody(name: str) -> None:
    objects = render_named(name)
    pods = find_pods(objects)
    policies = pick(objects, "NetworkPolicy")
    for policy in policies.values():
        chosen = [
            pod
            for pod in pods.values()
            if covers(policy["spec"]["podSelector"], pod["metadata"]["labels"])
        ]
        assert chosen, policy["metadata"]["name"]
        for rule in policy["spec"].get("ingress", ()):
            for port in rule.get("ports", ()):
                assert any(port["port"] in _list_ports(pod) for pod in chosen)
    # Whoever is not named may do nothing.
    nobody = policies["nobody"]["spec"]
    assert nobody["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in nobody
    assert all(covers(nobody["podSelector"], pod["metadata"]["labels"]) for pod in pods.values())


# -- our commands and their configuration


def list_commands(objects: tuple[Object, ...]) -> Iterator[list[str]]:
    for name, pod in find_pods(objects).items():
        (container,) = pod["spec"]["containers"]
        if name in _OURS:
            yield container["args"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            command = container.get(probe, {}).get("exec", {}).get("command", ["sleep"])
            if command[0] == "outgate":
                yield command[1:]


@each_folder
def test_containers_run_commands_of_ours(name: str) -> None:
    commands = list(list_commands(render_named(name)))

    assert {words[0] for words in commands} == {*_OURS, "alive"}
    for words in commands:
        assert words[0] in _COMMANDS
        build_parser().parse_args(words)


@each_folder
def test_the_configuration_is_right(
    name: str, secrets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = read_config(render_named(name), tmp_path, secrets)

    assert main(["check", "-c", str(file), "--json"]) == 0, capsys.readouterr()


@each_folder
def test_the_configuration_is_that_of_the_pods(name: str, config: Config) -> None:
    objects = render_named(name)
    pods = find_pods(objects)

    assert config.log.events == "stdout"
    assert all(tenant.proof for tenant in config.tenant if "google" in tenant.networks)
    assert _list_ports(pods["ingress"]) == {"smtp": config.ingress.listen[0].port}
    assert _list_ports(pods["admin"]) == {"http": config.admin.listen[0].port}
    assert pods["worker"]["spec"]["terminationGracePeriodSeconds"] > config.delivery.grace
    for who in _OURS:
        (container,) = pods[who]["spec"]["containers"]
        environment = {one["name"]: one for one in container["env"]}
        assert environment["OUTGATE_CONFIG"]["value"] in {
            mount["mountPath"] for mount in container["volumeMounts"]
        }
        assert (
            environment["OUTGATE_STORE_URL"]["valueFrom"]["secretKeyRef"]["name"] == "outgate-store"
        )


@each_folder
def test_there_is_a_source_for_each_worker(name: str, config: Config) -> None:
    objects = render_named(name)
    worker = pick(objects, "StatefulSet")["worker"]
    (container,) = worker["spec"]["template"]["spec"]["containers"]
    scaler = pick(objects, "HorizontalPodAutoscaler").get("worker")
    count = scaler["spec"]["maxReplicas"] if scaler else worker["spec"]["replicas"]

    assert count == len(config.source) == len(config.pool["default"])
    if "--source" in container["args"]:
        assert container["args"] == ["worker", "--source", "$(POD_NAME)"]
        assert {source.name for source in config.source} == {f"worker-{n}" for n in range(count)}
    else:  # each serves what it can bind: addresses must tell them apart
        assert len({source.address for source in config.source}) == count


# -- overlays


def test_the_clients_address_is_kept() -> None:
    service = pick(render_named("base"), "Service")["ingress"]["spec"]

    assert (service["type"], service["externalTrafficPolicy"]) == ("LoadBalancer", "Local")


@pytest.mark.parametrize("name", ["proxy-protocol"])
def test_or_a_balancer_tells_it(config: Config) -> None:
    service = pick(render_named("proxy-protocol"), "Service")["ingress"]

    assert config.ingress.proxies
    assert "*" in service["metadata"]["annotations"].values()


def test_nobody_else_is_believed() -> None:
    for name in FOLDERS.keys() - {"proxy-protocol"}:
        (config,) = pick(render_named(name), "ConfigMap").values()
        assert "proxies" not in config["data"]["outgate.toml"]


@pytest.mark.parametrize("name", ["multus"])
def test_each_address_of_the_second_network_is_a_source(config: Config) -> None:
    objects = render_named("multus")
    (network,) = pick(objects, "NetworkAttachmentDefinition").values()
    main_plugin, last = json.loads(network["spec"]["config"])["plugins"]
    first, end = (
        ipaddress.ip_address(main_plugin["ipam"][k]) for k in ("range_start", "range_end")
    )

    assert last == {"type": "sbr"}
    assert {s.address for s in config.source} == {
        str(first + n) for n in range(int(end) - int(first) + 1)
    }
    annotations = find_pods(objects)["worker"]["metadata"]["annotations"]
    assert annotations["k8s.v1.cni.cncf.io/networks"] == network["metadata"]["name"]


@pytest.mark.parametrize("name", ["egress-proxy"])
def test_workers_reach_the_proxies_and_send_nothing_past_them(config: Config) -> None:
    rules = pick(render_named("egress-proxy"), "NetworkPolicy")["worker"]["spec"]["egress"]

    assert all(source.proxy for source in config.source)
    assert 25 not in [port["port"] for rule in rules for port in rule["ports"]]
    block = ipaddress.ip_network(rules[0]["to"][0]["ipBlock"]["cidr"])
    for source in config.source:
        host, _, port = source.proxy.removeprefix("haproxy://").partition(":")
        assert ipaddress.ip_address(host) in block
        assert int(port) == rules[0]["ports"][0]["port"]


def test_with_a_store_of_ones_own_none_comes_along() -> None:
    objects = render_named("sentinel")

    assert find_pods(objects).keys() == set(_OURS)
    assert not {"store"} & pick(objects, "Service").keys()


def test_what_is_scaled_is_there() -> None:
    objects = render_named("autoscale")
    makers = pick(objects, "Deployment", "StatefulSet")
    for scaler in pick(objects, "HorizontalPodAutoscaler").values():
        target = scaler["spec"]["scaleTargetRef"]
        # Two that set the number would undo each other's.
        assert "replicas" not in makers[f"{target['kind']}/{target['name']}"]["spec"]


# -- secrets, and the store with them


def test_secrets_that_are_there_stay(secrets: Path) -> None:
    before = {file: file.read_bytes() for file in secrets.iterdir()}

    subprocess.run(["sh", secrets / "make-secrets.sh"], check=True, capture_output=True)

    assert {file: file.read_bytes() for file in secrets.iterdir()} == before
    ignored = (secrets / ".gitignore").read_text("utf-8").splitlines()
    generated = yaml.safe_load((secrets / "kustomization.yaml").read_text("utf-8"))
    files = {file for one in generated["secretGenerator"] for file in one["files"]}
    assert "*" in ignored
    assert not {f"!{file}" for file in files} & set(ignored)


@pytest.mark.slow
def test_the_store_keeps_what_it_says_and_wants_the_password(
    secrets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (container,) = find_pods(render_named("base"))["store"]["spec"]["containers"]
    port = find_free_port()
    words = [*container["command"], *container["args"]]
    assert words.pop(0) == "valkey-server"
    there = {"/etc/valkey/auth.conf": str(secrets / "auth.conf"), "/data": str(tmp_path)}
    words = [there.get(word, word) for word in words]
    url = (secrets / "url").read_text().replace("store:6379", f"127.0.0.1:{port}")
    file = tmp_path / "outgate.toml"
    file.write_text(f'store.url = "{url}"')
    command = [str(find_binary().path), *words, "--port", str(port), "--bind", "127.0.0.1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 30
            while main(["status", "-c", str(file), "--json"]) != 0:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            state = json.loads(capsys.readouterr().out)
            assert state["store"]["weaknesses"] == []
            assert state["store"]["memory_limit"] == 2 << 30
            file.write_text(f'store.url = "redis://127.0.0.1:{port}"')
            assert main(["status", "-c", str(file), "--json"]) != 0
        finally:
            process.terminate()
