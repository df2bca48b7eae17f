"""The Helm chart has the same objects as the kustomize base, its components and its overlays."""

from __future__ import annotations

import pytest
import yaml

from deploy.helm import generate
from deploy.helm.components import components
from tests.support.helm import CHART, KUBERNETES, chart_with, comparable, helm, is_hook, switched_on, template
from tests.support.manifests import (
    K8S,
    OVERLAYS,
    base_with,
    combinations,
    of_kind,
    overlay,
    telling_combinations,
    title,
    workloads,
)


def test_the_chart_has_the_objects_of_the_base() -> None:
    assert comparable(chart_with(())) == comparable(base_with(()))


@pytest.mark.slow
@pytest.mark.parametrize("choice", combinations(), ids=lambda names: "+".join(names) or "base")
def test_values_that_switch_components_on_give_the_objects_of_kustomize(choice: tuple[str, ...]) -> None:
    rendered, built = comparable(chart_with(choice)), comparable(base_with(choice))
    assert rendered.keys() == built.keys()
    for name, manifest in built.items():
        assert rendered[name] == manifest


@pytest.mark.slow
@pytest.mark.parametrize("name", OVERLAYS)
def test_a_file_of_values_gives_the_objects_of_the_overlay(name: str) -> None:
    rendered = comparable(template({"namespace": {"create": True}}, f"values-{name}.yaml"))
    built = comparable([manifest for manifest in overlay(name) if manifest["kind"] != "Secret"])
    assert rendered == built


@pytest.mark.slow
def test_the_chart_is_what_the_generator_writes() -> None:
    generated = dict(generate.templates())
    assert {name: (CHART / name).read_text() for name in generated} == generated, "run: make generated"
    assert generate.present() == generated.keys() | generate.BY_HAND


def test_every_component_is_in_the_chart() -> None:
    assert set(components()) == {folder.name for folder in (K8S / "components").iterdir()}
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for name in components():
        for part in switched_on((name,)):
            assert part in values, name


@pytest.mark.slow
@pytest.mark.parametrize("choice", telling_combinations(), ids=lambda names: "+".join(names) or "base")
def test_helm_finds_nothing_to_complain_about(choice: tuple[str, ...]) -> None:
    done = helm("lint", "--strict", "--kube-version", KUBERNETES, CHART, values=switched_on(choice))
    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout


def test_helm_accepts_the_chart_strictly() -> None:
    done = helm("lint", "--strict", CHART)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_the_namespace_is_that_of_the_release_wherever_it_stands() -> None:
    choice = {
        **switched_on(("monitoring", "autoscaling", "tls", "gateway-api", "priority")),
        "namespace": {"create": True},
    }
    for manifest in template(choice, namespace="talk"):
        if manifest["kind"] == "Namespace":
            assert manifest["metadata"]["name"] == "talk"
        elif manifest["kind"] != "PriorityClass":
            assert manifest["metadata"]["namespace"] == "talk", title(manifest)
        if manifest["kind"] == "Certificate" and manifest["metadata"]["name"] != "authority":
            name = manifest["spec"]["commonName"]
            assert f"{name}.talk.svc" in manifest["spec"]["dnsNames"]
        if manifest["kind"] == "ScaledObject":
            queries = [trigger["metadata"].get("query", "") for trigger in manifest["spec"]["triggers"]]
            assert not [query for query in queries if 'namespace="chroma-voice"' in query]
    (config,) = [it for it in template(choice, namespace="talk") if it["metadata"]["name"] == "gateway-defaults"]
    assert "gateway.talk" in config["data"]["CHROMA_HTTP_HOSTS"].split(",")


def test_only_the_objects_of_the_test_are_hooks() -> None:
    hooks = [manifest for manifest in chart_with(()) if is_hook(manifest)]
    assert {manifest["metadata"]["annotations"]["helm.sh/hook"] for manifest in hooks} == {"test"}
    assert {manifest["kind"] for manifest in hooks} == {"Pod", "ServiceAccount", "ConfigMap", "NetworkPolicy"}


@pytest.mark.slow
def test_a_changed_setting_replaces_the_pods_that_read_it_and_no_others() -> None:
    def hashes(values: dict[str, object]) -> dict[str, str]:
        return {
            it["metadata"]["name"]: it["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
            for it in workloads(template(values))
        }

    before, after = hashes({}), hashes({"codec": {"settings": {"CHROMA_SLOTS": 8}}})
    assert {name for name in before if before[name] != after[name]} == {"codec"}
    moved = hashes({"weights": {"revision": "1" * 40}})
    assert {name for name in before if before[name] != moved[name]} == {"reasoner", "speech-gen", "codec"}


def test_no_config_map_and_no_pod_holds_a_secret() -> None:
    manifests = template(switched_on(("tls", "oidc", "gateway-api")), "values-production.yaml")
    assert not of_kind(manifests, "Secret")
    for config in of_kind(manifests, "ConfigMap"):
        assert "CHROMA_REDIS_URL" not in config.get("data", {})
