"""Kubernetes' objects, as ``kubectl apply -k`` would send them."""

import functools
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

KUBERNETES = Path(__file__).parents[2] / "deploy/kubernetes"
Object = dict[str, Any]


def find_missing() -> str | None:
    """Return why nothing can be rendered here, or None."""
    if shutil.which("kubectl") or shutil.which("kustomize"):
        return None
    return "neither kubectl nor kustomize is installed (https://kubernetes.io/docs/tasks/tools)"


@functools.cache
def render(folder: Path) -> tuple[Object, ...]:
    """Return the objects of a kustomization. Raises AssertionError with what was said."""
    kubectl = shutil.which("kubectl")
    command = [kubectl, "kustomize"] if kubectl else ["kustomize", "build"]
    done = subprocess.run(
        [*command, folder], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # what is deprecated
    return tuple(yaml.safe_load_all(done.stdout))


def pick(objects: tuple[Object, ...], *kinds: str) -> dict[str, Object]:
    """Return objects of these kinds by name; those of several as "kind/name"."""
    return {
        one["metadata"]["name"]
        if len(kinds) == 1
        else f"{one['kind']}/{one['metadata']['name']}": one
        for one in objects
        if one["kind"] in kinds
    }


def find_pods(objects: tuple[Object, ...]) -> dict[str, Object]:
    """Return the pod templates, by the name of what makes them."""
    makers = pick(objects, "Deployment", "StatefulSet")
    return {name.partition("/")[2]: one["spec"]["template"] for name, one in makers.items()}


def covers(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Say whether a label selector is for what has these labels."""
    if not {"matchLabels", "matchExpressions"} & selector.keys() and selector:
        selector = {"matchLabels": selector}  # a Service's
    for one in selector.get("matchExpressions", ()):
        assert one["operator"] == "In"
        if labels.get(one["key"]) not in one["values"]:
            return False
    return dict(selector.get("matchLabels", {})).items() <= labels.items()


def list_secrets(pod: Object) -> Iterator[tuple[str, str]]:
    """Yield what a pod wants of secrets: name and key, "" for all keys."""
    for volume in pod["spec"].get("volumes", ()):
        if secret := volume.get("secret"):
            items = [item["key"] for item in secret.get("items", ())] or [""]
            yield from ((secret["secretName"], key) for key in items)
    for container in pod["spec"]["containers"]:
        for variable in container.get("env", ()):
            if chosen := variable.get("valueFrom", {}).get("secretKeyRef"):
                yield chosen["name"], chosen["key"]
