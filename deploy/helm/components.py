"""The kustomize base and its components, as the generator of the chart reads them.

Objects are keyed by `Kind/name`. ConfigMaps lose the hash at the end of their names; their users lose it too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from typing import Any

from deploy.helm.kustomize import K8S, build_base

Objects = dict[str, dict[str, Any]]

CONDITIONS = {
    "gpu": '(eq .Values.gpu.mode "dedicated")',
    "gpu-sharing-mps": '(eq .Values.gpu.mode "mps")',
    "gpu-sharing-time-slicing": '(eq .Values.gpu.mode "time-slicing")',
    "monitoring": ".Values.monitoring.enabled",
    "autoscaling": ".Values.autoscaling.enabled",
    "tracing": ".Values.tracing.enabled",
    "tls": ".Values.tls.enabled",
    "gateway-api": ".Values.gatewayApi.enabled",
    "external-redis": "(not .Values.valkey.enabled)",
    "oidc": ".Values.oidc.enabled",
    "night": ".Values.night.enabled",
    "priority": ".Values.priority.enabled",
    "nvidia-runtime": ".Values.nvidiaRuntime.enabled",
    "node-local-weights": ".Values.nodeLocalWeights.enabled",
}
"""When the chart has what a component does. The order is that of the components in a kustomization."""


def condition(name: str) -> str:
    """When the chart has what a component does. A component without a line above has the value `NAME.enabled`."""
    return CONDITIONS.get(name, f".Values.{value_name(name)}.enabled")


def value_name(name: str) -> str:
    """The name of a component or workload among the values: `gatewayApi` for `gateway-api`."""
    first, *rest = name.split("-")
    return first + "".join(part.capitalize() for part in rest)


def components() -> list[str]:
    """Every component, in the order in which they are applied."""
    present = sorted(folder.name for folder in (K8S / "components").iterdir())
    return [*CONDITIONS, *(name for name in present if name not in CONDITIONS)]


def purpose(name: str) -> str:
    """The first sentence of the comment at the top of a component."""
    lines = (K8S / "components" / name / "kustomization.yaml").read_text().splitlines()
    comment = " ".join(line.removeprefix("# ") for line in takewhile(lambda line: line.startswith("#"), lines))
    return re.split(r"(?<=\.)\s", comment)[0]


NEEDS = {"night": ("autoscaling",)}
"""Components that change what other components add."""

_HASHED = re.compile(r"-[2456789bcdfghkmt]{10}$")
"""The end of a generated name: kustomize writes the digits of the hash with these letters."""


def build(components: Sequence[str]) -> Objects:
    """The objects of the base with these components. Fails with the error of kustomize."""
    return without_hashes(build_base(components))


def without_hashes(manifests: Sequence[dict[str, Any]]) -> Objects:
    """The manifests by kind and name, with names of ConfigMaps that have no hash."""
    names = [manifest["metadata"]["name"] for manifest in manifests if manifest["kind"] == "ConfigMap"]
    plain = {name: _HASHED.sub("", name) for name in names}

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: renamed(item) for key, item in value.items()}
        if isinstance(value, list):
            return [renamed(item) for item in value]
        return plain.get(value, value) if isinstance(value, str) else value

    return {f"{it['kind']}/{it['metadata']['name']}": it for it in map(renamed, manifests)}


def steps() -> tuple[Objects, list[tuple[str, Objects, Objects]]]:
    """The base, and for each component its name and the objects without and with it."""
    names = components()
    wanted = dict.fromkeys(
        [(), *(NEEDS.get(name, ()) for name in names), *((*NEEDS.get(name, ()), name) for name in names)]
    )
    with ThreadPoolExecutor(2) as pool:
        built = dict(zip(wanted, pool.map(build, wanted), strict=True))
    return built[()], [(name, built[NEEDS.get(name, ())], built[(*NEEDS.get(name, ()), name)]) for name in names]
