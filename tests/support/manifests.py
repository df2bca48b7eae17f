"""What the tests of `deploy/` read: kustomize's output as dictionaries, and the settings of each process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product
from typing import Any

from deploy.helm.kustomize import K8S, build, build_base
from gateway.settings import GatewaySettings
from services.codec.settings import CodecSettings
from services.common.settings import ServiceSettings
from services.reasoner.settings import ReasonerSettings
from services.speech_gen.settings import SpeechGenSettings
from tests.support.paths import ROOT

Manifest = dict[str, Any]

DEPLOY = ROOT / "deploy"

SETTINGS: dict[str, type[ServiceSettings]] = {
    "gateway": GatewaySettings,
    "reasoner": ReasonerSettings,
    "speech-gen": SpeechGenSettings,
    "codec": CodecSettings,
}
"""The settings of the process in each container."""

OVERLAYS = ("local", "single-gpu", "production")


_CHOICES = (
    ((), ("gpu",), ("gpu-sharing-mps",), ("gpu-sharing-time-slicing",)),
    ((), ("monitoring",), ("monitoring", "autoscaling"), ("monitoring", "autoscaling", "tracing")),
    ((), ("tls",)),
    ((), ("gateway-api",)),
    ((), ("external-redis",)),
    ((), ("oidc",)),
)
"""One choice of each row can be combined with one of every other: one way to a GPU or none, and autoscaling and tracing
only with monitoring.
"""

_APART = (
    ("gpu", "monitoring", "autoscaling", "night", "priority", "nvidia-runtime"),
    ("priority",),
    ("nvidia-runtime",),
    ("node-local-weights",),
    ("gpu", "node-local-weights"),
)
"""Combinations with components that change one field each, for which all products would be many."""


def combinations() -> list[tuple[str, ...]]:
    """Every sensible choice of components."""
    return [*(tuple(name for part in choice for name in part) for choice in product(*_CHOICES)), *_APART]


def telling_combinations() -> list[tuple[str, ...]]:
    """A few of these combinations: each choice alone, and everything together on each kind of GPU."""
    alone = [choice for row in _CHOICES for choice in row[1:]]
    rest = tuple(name for row in _CHOICES[1:] for name in row[-1])
    return [(), *alone, *((*gpu, *rest) for gpu in _CHOICES[0]), *_APART]


@cache
def overlay(name: str) -> list[Manifest]:
    """The manifests of an overlay."""
    return build(K8S / "overlays" / name)


@cache
def base_with(components: Sequence[str]) -> list[Manifest]:
    """The manifests of the base with these components."""
    return build_base(components)


def title(manifest: Manifest) -> str:
    """Kind and name of a manifest."""
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    """The manifests of these kinds."""
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def workloads(manifests: list[Manifest]) -> list[Manifest]:
    """The manifests that run pods."""
    return of_kind(manifests, "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")


def containers(workload: Manifest) -> list[Manifest]:
    """All containers of a workload, the init containers first."""
    pod = workload["spec"]["template"]["spec"]
    return [*pod.get("initContainers", []), *pod["containers"]]


def processes(manifests: list[Manifest]) -> Iterator[tuple[Manifest, Manifest, type[ServiceSettings]]]:
    """The pod, the container and the settings type of each of our processes."""
    for workload in workloads(manifests):
        pod = workload["spec"]["template"]["spec"]
        for container in pod["containers"]:
            if container["name"] in SETTINGS:
                yield pod, container, SETTINGS[container["name"]]


def environment(container: Manifest, manifests: list[Manifest]) -> dict[str, str]:
    """Names and values of a container's environment. A value from a Secret is given as `secret`."""
    config_maps = {config["metadata"]["name"]: config.get("data", {}) for config in of_kind(manifests, "ConfigMap")}
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        found.update(config_maps[source["configMapRef"]["name"]])
    for variable in container.get("env", []):
        source = variable.get("valueFrom", {})
        if "configMapKeyRef" in source:
            found[variable["name"]] = config_maps[source["configMapKeyRef"]["name"]][source["configMapKeyRef"]["key"]]
        else:
            found[variable["name"]] = variable.get("value", "secret")
    return found


def store_command() -> str:
    """The shell command that starts the store."""
    (workload,) = of_kind(base_with(()), "StatefulSet")
    (container,) = containers(workload)
    assert container["command"] == ["sh", "-c"]
    (command,) = container["args"]
    return command


def store_rights() -> list[str]:
    """The rights of the store's user, as ACL rules."""
    (line,) = [line for line in store_command().splitlines() if line.startswith("user chroma-voice on ")]
    return line.split()[4:]


def pre_stop_s(name: str) -> float:
    """How long a pod of the base goes on serving after it was told to leave, in seconds."""
    deployment = next(it for it in of_kind(base_with(()), "Deployment") if it["metadata"]["name"] == name)
    return float(deployment["spec"]["template"]["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"])


def cpus(quantity: str) -> float:
    """CPUs that a quantity of Kubernetes stands for."""
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


def requested_cpus(workload: Manifest) -> float:
    """CPUs that the scheduler reserves for one pod of a workload."""
    pod = workload["spec"]["template"]["spec"]
    first = [cpus(it["resources"]["requests"]["cpu"]) for it in pod.get("initContainers", [])]
    return max(*first, 0.0, sum(cpus(it["resources"]["requests"]["cpu"]) for it in pod["containers"]))
