import json
import lzma
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.support.helm import chart_with
from tests.support.manifests import (
    K8S,
    OVERLAYS,
    Manifest,
    base_with,
    combinations,
    of_kind,
    overlay,
    telling_combinations,
    title,
)

SCHEMAS = Path(__file__).parent / "schemas"
"""JSON schemas of the custom resources, GROUP/KIND_VERSION.json.xz; `xz -dk` unpacks them."""
_valid: set[str] = set()


@cache
def custom_schema(api_version: str, kind: str) -> dict[str, Any] | None:
    group, _, version = api_version.rpartition("/")
    path = SCHEMAS / group / f"{kind.lower()}_{version}.json.xz"
    if not path.exists():
        return None
    # Go takes flags after the anchor, Python only before it.
    return json.loads(lzma.decompress(path.read_bytes()).decode().replace('"^(?i)', '"(?i)^'))


def check(manifest: Manifest) -> None:
    content = json.dumps(manifest, sort_keys=True)
    if content in _valid:
        return
    schema = custom_schema(manifest["apiVersion"], manifest["kind"])
    if schema is None:
        kubernetes_validate.validate(manifest, "1.37", strict=True)
    else:
        jsonschema.validate(manifest, schema)
    _valid.add(content)


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_is_valid(name: str) -> None:
    for manifest in overlay(name):
        check(manifest)


@pytest.mark.parametrize("components", telling_combinations(), ids=lambda names: "+".join(names) or "base")
def test_components_are_valid_alone_and_all_together(components: tuple[str, ...]) -> None:
    check_all(components)


@pytest.mark.slow
@pytest.mark.parametrize("components", combinations(), ids=lambda names: "+".join(names) or "base")
def test_every_sensible_combination_of_components_is_valid(components: tuple[str, ...]) -> None:
    check_all(components)


@pytest.mark.slow
@pytest.mark.parametrize("components", telling_combinations(), ids=lambda names: "+".join(names) or "base")
def test_what_the_helm_chart_makes_of_components_is_valid(components: tuple[str, ...]) -> None:
    for manifest in chart_with(components):
        check(manifest)


def check_all(components: tuple[str, ...]) -> None:
    manifests = base_with(components)
    for manifest in manifests:
        check(manifest)
    titles = [title(manifest) for manifest in manifests]
    assert len(titles) == len(set(titles))


def test_every_component_and_overlay_is_in_a_test() -> None:
    assert {folder.name for folder in (K8S / "components").iterdir()} == {
        name for choice in combinations() for name in choice
    }
    assert {folder.name for folder in (K8S / "overlays").iterdir()} == set(OVERLAYS)


def test_an_unknown_field_is_refused() -> None:
    deployment = of_kind(overlay("local"), "Deployment")[0]
    monitor = of_kind(base_with(("monitoring",)), "PodMonitor")[0]
    for manifest in (deployment, monitor):
        with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
            check({**manifest, "spec": {**manifest["spec"], "replicsa": 2}})


def test_the_device_plugin_gives_a_share_to_each_service() -> None:
    path = K8S / "components" / "gpu-sharing-time-slicing" / "device-plugin-config.yaml"
    slicing = yaml.safe_load(path.read_text())["sharing"]["timeSlicing"]
    assert slicing["resources"] == [{"name": "nvidia.com/gpu", "replicas": 3}]
    for deployment in of_kind(base_with(("gpu-sharing-time-slicing",)), "Deployment"):
        limits = deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
        shares = 0 if deployment["metadata"]["name"] == "gateway" else 1
        assert int(limits.get("nvidia.com/gpu.shared", 0)) == shares
