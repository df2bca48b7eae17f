"""Rollouts fit: into a small node, and onto GPUs none of which is spare; and overlays have the last word."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.manifests import (
    K8S,
    base_with,
    build,
    environment,
    of_kind,
    overlay,
    processes,
    requested_cpus,
    telling_combinations,
    workloads,
)

SERVICES = {"reasoner", "speech-gen", "codec"}
_SYSTEM_CPUS = 0.5
"""What a small cluster's own pods request: name server, storage, metrics, network."""
_DOWNLOAD_S = 3600


def test_all_pods_of_a_laptop_are_rolled_out_at_once_on_two_cpus() -> None:
    built = workloads(overlay("local"))
    with_successors = [it for it in built for _ in range(2 if it["kind"] == "Deployment" else 1)]
    assert sum(map(requested_cpus, with_successors)) + _SYSTEM_CPUS <= 2


def test_a_rollout_takes_no_more_gpus_than_the_replicas_have() -> None:
    for components in telling_combinations():
        for deployment in of_kind(base_with(components), "Deployment"):
            limits = deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
            if any(name.startswith("nvidia.com/") for name in limits):
                strategy = deployment["spec"]["strategy"]
                assert strategy.get("type") == "Recreate" or strategy["rollingUpdate"]["maxSurge"] == 0


def test_a_rollout_is_given_up_after_the_slowest_start_and_not_before() -> None:
    for deployment in of_kind(base_with(()), "Deployment"):
        if deployment["metadata"]["name"] in SERVICES:
            pod = deployment["spec"]["template"]["spec"]
            startup = pod["containers"][0]["startupProbe"]
            slowest_s = startup["periodSeconds"] * startup["failureThreshold"] + _DOWNLOAD_S
            assert deployment["spec"]["progressDeadlineSeconds"] >= slowest_s + pod["terminationGracePeriodSeconds"]


def said_by(component: str) -> list[tuple[str, str]]:
    """The service and the name of each variable that a component sets."""
    settings = yaml.safe_load((K8S / "components" / component / "kustomization.yaml").read_text())
    return [
        (generated["name"].removesuffix("-defaults"), literal.split("=", 1)[0])
        for generated in settings.get("configMapGenerator", [])
        for literal in generated.get("literals", [])
    ]


@pytest.mark.parametrize("component", sorted(it.name for it in (K8S / "components").iterdir() if said_by(it.name)))
def test_a_value_of_an_overlay_counts_whatever_a_component_says(component: str, tmp_path: Path) -> None:
    said = said_by(component)
    built = build(_overlay(tmp_path.resolve(), [component], said))
    found = {container["name"]: environment(container, built) for _, container, _ in processes(built)}
    assert [found[service][variable] for service, variable in said] == ["mine"] * len(said)


def _overlay(folder: Path, components: list[str], said: list[tuple[str, str]]) -> Path:
    """An overlay that gives each variable of each service the value `mine`."""
    to_k8s = os.path.relpath(K8S, folder)
    generators: list[dict[str, Any]] = [
        {
            "name": f"{service}-settings",
            "behavior": "merge",
            "literals": [f"{variable}=mine" for name, variable in said if name == service],
        }
        for service in sorted({service for service, _ in said})
    ]
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "chroma-voice",
        "resources": [f"{to_k8s}/base"],
        "components": [f"{to_k8s}/components/{name}" for name in components],
        "configMapGenerator": generators,
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return folder
