"""What the tests of the Helm chart read: its rendered objects, and the same objects in a form that can be compared."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.support.manifests import Manifest, containers, workloads
from tests.support.paths import ROOT

CHART = ROOT / "deploy" / "helm" / "chroma-voice"
HELM = Path(sys.executable).parent / "helm"

NAMESPACE = "chroma-voice"
KUBERNETES = "1.37.0"

SWITCHES: dict[str, dict[str, Any]] = {
    "gpu": {"gpu": {"mode": "dedicated"}},
    "gpu-sharing-mps": {"gpu": {"mode": "mps"}},
    "gpu-sharing-time-slicing": {"gpu": {"mode": "time-slicing"}},
    "external-redis": {"valkey": {"enabled": False}},
}
"""The values that do what a component does, where they are not `nameOfTheComponent.enabled`."""

LABELS = {
    "app.kubernetes.io/part-of",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "helm.sh/chart",
}
"""What the chart labels every object with. Kustomize gives only the first of them, and only to the base's objects."""


def switched_on(components: Sequence[str]) -> dict[str, Any]:
    """The values for these components."""
    values: dict[str, Any] = {}
    for name in components:
        first, *rest = name.split("-")
        usual = {first + "".join(part.capitalize() for part in rest): {"enabled": True}}
        values |= SWITCHES.get(name, usual)
    return values


def helm(*arguments: str | Path, values: Mapping[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    """Run helm, with values on its standard input. Its warnings about links inside the chart are left out."""
    given = ("--values", "-") if values else ()
    text = yaml.safe_dump(dict(values or {}))
    # A stranger's cluster or settings change nothing.
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    command = [HELM, *arguments, *given]
    done = subprocess.run(command, capture_output=True, text=True, input=text, env=environment, check=False)
    done.stderr = "".join(line for line in done.stderr.splitlines(True) if "found symbolic link" not in line)
    return done


def template(
    values: Mapping[str, Any] | None = None, *files: str, chart: Path = CHART, namespace: str = NAMESPACE
) -> list[Manifest]:
    """The objects of the chart with these values, beside files of values in the chart's folder."""
    options = [part for name in files for part in ("--values", str(CHART / name))]
    version = ("--kube-version", KUBERNETES)
    done = helm("template", "voice", chart, "--namespace", namespace, *version, *options, values=values)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return [manifest for manifest in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if manifest]


@cache
def chart_with(components: Sequence[str]) -> list[Manifest]:
    """The chart's objects with these components, and with the namespace."""
    return template({**switched_on(components), "namespace": {"create": True}})


def is_hook(manifest: Manifest) -> bool:
    """Whether an object belongs to `helm test`, and not to the installation."""
    return "helm.sh/hook" in manifest["metadata"].get("annotations", {})


def comparable(manifests: Sequence[Manifest]) -> dict[str, Any]:
    """Objects by kind and name, without what may differ: hooks, the chart's labels and the hash of the settings.

    Generated names lose their hashes. The order of lists does not count.
    """
    plain = {name: _without_hash(name) for name in _names(manifests)}
    found: dict[str, Any] = {}
    for manifest in json.loads(json.dumps(list(manifests))):
        if is_hook(manifest):
            continue
        _drop(manifest["metadata"], "labels", LABELS)
        if manifest["kind"] in ("Deployment", "StatefulSet"):
            _drop(manifest["spec"]["template"]["metadata"], "annotations", {"checksum/config"})
        title = f"{manifest['kind']}/{plain.get(manifest['metadata']['name'], manifest['metadata']['name'])}"
        assert title not in found, title
        found[title] = _sorted(manifest, plain)
    return found


def _names(manifests: Sequence[Manifest]) -> set[str]:
    """Names that kustomize generates: those of ConfigMaps, and of Secrets, which stand at their users only."""
    names = {it["metadata"]["name"] for it in manifests if it["kind"] == "ConfigMap"}
    for workload in workloads(list(manifests)):
        for variable in (variable for it in containers(workload) for variable in it.get("env", [])):
            names.add(variable.get("valueFrom", {}).get("secretKeyRef", {}).get("name", ""))
    return names


def _without_hash(name: str) -> str:
    stem, _, end = name.rpartition("-")
    return stem if len(end) == 10 and set(end) <= set("2456789bcdfghkmt") else name


def _drop(holder: dict[str, Any], name: str, keys: set[str]) -> None:
    kept = {key: value for key, value in holder.pop(name, {}).items() if key not in keys}
    if kept:
        holder[name] = kept


def _sorted(value: Any, plain: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(item, plain) for key, item in value.items()}
    if isinstance(value, list):
        return sorted((_sorted(item, plain) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
    return plain.get(value, value) if isinstance(value, str) else value
