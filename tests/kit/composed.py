"""The Compose file as Docker would understand it: anchors, variables, and overrides merged.

Only what our files use, for tests that look at what stands in them, or run it.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

_ROOT = Path(__file__).parents[2]
FILE = _ROOT / "docker-compose.yml"
_VARIABLE = re.compile(r"\$(?:\$|\{(\w+)(?::-([^}]*))?\})")


class _Reset:
    """``!reset``: what was there before goes; ``!override``: this takes its place."""

    def __init__(self, value: Any = None) -> None:
        self.value = value


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core, plus the two tags of Compose."""


def _make_reset(loader: _Loader, node: yaml.Node) -> _Reset:
    return _Reset()


def _make_override(loader: _Loader, node: yaml.Node) -> _Reset:
    assert isinstance(node, yaml.MappingNode)
    return _Reset(loader.construct_mapping(node, deep=True))


_Loader.add_constructor("!reset", _make_reset)
_Loader.add_constructor("!override", _make_override)


def read_composed(*overrides: str, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the file with overrides of deploy/ merged in, variables replaced, extensions left out."""
    document: Any = None
    for file in (FILE, *(_ROOT / "deploy" / name for name in overrides)):
        text = file.read_text("utf-8")
        document = _merge(document, yaml.load(text, Loader=_Loader))
    found = _interpolate(document, environment if environment is not None else {})
    return {key: value for key, value in found.items() if not key.startswith("x-")}


def _merge(old: Any, new: Any) -> Any:
    if isinstance(new, _Reset):
        return new.value
    if isinstance(new, dict):
        merged = _name_all(old) if isinstance(old, dict | list) else {}
        for key, value in new.items():
            merged[key] = _merge(merged.get(key), value)
            if isinstance(value, _Reset) and value.value is None:
                del merged[key]
        return merged
    return new


def _name_all(found: dict[str, Any] | list[str]) -> dict[str, Any]:
    return dict(found) if isinstance(found, dict) else dict.fromkeys(found)


def _interpolate(value: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _interpolate(one, environment) for key, one in value.items()}
    if isinstance(value, list):
        return [_interpolate(one, environment) for one in value]
    if isinstance(value, str):
        return _VARIABLE.sub(
            lambda m: "$" if m[1] is None else environment.get(m[1]) or m[2] or "", value
        )
    return value


def find_mounts(service: Mapping[str, Any]) -> dict[str, str]:
    """Return what a service finds where: path in the container -> volume, or file of this tree."""
    mounts = {}
    for one in service.get("volumes", ()):
        source, target, *_ = one.split(":")
        mounts[target] = source
    return mounts


def find_file(source: str) -> Path:
    """Return the file of this tree that a mount names."""
    assert source.startswith("./"), source
    return Path(os.path.normpath(_ROOT / source))
