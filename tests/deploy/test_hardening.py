"""The security settings of every pod, and which pods may call which."""

from typing import Any

import pytest

from tests.support.manifests import (
    OVERLAYS,
    Manifest,
    base_with,
    containers,
    of_kind,
    overlay,
    telling_combinations,
    workloads,
)

LABEL = "app.kubernetes.io/name"

every_build = pytest.mark.parametrize(
    "manifests",
    [
        *(pytest.param(lambda name=name: overlay(name), id=name) for name in OVERLAYS),
        *(
            pytest.param(lambda choice=choice: base_with(choice), id="+".join(choice) or "base")
            for choice in telling_combinations()
        ),
    ],
)


@every_build
def test_every_pod_is_hardened_the_same_way(manifests: Any) -> None:
    for workload in workloads(manifests()):
        pod = workload["spec"]["template"]["spec"]
        assert pod["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "fsGroup": 10001,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        for container in containers(workload):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]


@every_build
def test_every_workload_has_an_account_a_budget_and_a_policy_of_its_own(manifests: Any) -> None:
    built = manifests()
    names = {workload["metadata"]["name"] for workload in workloads(built)}
    accounts = {account["metadata"]["name"]: account for account in of_kind(built, "ServiceAccount")}
    assert names == accounts.keys()
    assert not [account for account in accounts.values() if account["automountServiceAccountToken"]]
    for kind in ("PodDisruptionBudget", "NetworkPolicy"):
        assert names <= {manifest["metadata"]["name"] for manifest in of_kind(built, kind)}


@every_build
def test_no_secret_is_in_the_manifests_but_the_local_ones(manifests: Any, request: pytest.FixtureRequest) -> None:
    secrets = of_kind(manifests(), "Secret")
    assert bool(secrets) == (request.node.callspec.id == "local")


def allowed_callers(policies: list[Manifest], name: str) -> set[str]:
    """Names of the pods that may call the pod `name`. `*` stands for every pod."""
    found: set[str] = set()
    for policy in policies:
        selector = policy["spec"]["podSelector"]
        if selector.get("matchLabels", {}).get(LABEL, name) != name or not selector:
            continue
        if any(name not in expression["values"] for expression in selector.get("matchExpressions", [])):
            continue
        for rule in policy["spec"].get("ingress", []):
            for peer in rule.get("from", [{}]):
                if not peer:
                    found.add("*")
                elif "podSelector" in peer:
                    found.add(peer["podSelector"]["matchLabels"][LABEL])
                else:
                    found.add("namespace " + peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"])
    return found


@pytest.mark.parametrize("name", ["reasoner", "speech-gen", "codec", "valkey"])
def test_only_the_gateway_reaches_a_service(name: str) -> None:
    assert allowed_callers(of_kind(base_with(()), "NetworkPolicy"), name) == {"gateway"}


def test_monitoring_adds_prometheus_and_the_metrics_port_only() -> None:
    policies = of_kind(base_with(("monitoring",)), "NetworkPolicy")
    assert allowed_callers(policies, "codec") == {"gateway", "namespace monitoring"}
    (added,) = [policy for policy in policies if policy["metadata"]["name"] == "metrics"]
    assert [rule["ports"] for rule in added["spec"]["ingress"]] == [[{"port": "metrics"}]]


@every_build
def test_traffic_that_no_policy_names_is_denied(manifests: Any) -> None:
    (deny,) = [p for p in of_kind(manifests(), "NetworkPolicy") if p["metadata"]["name"] == "default-deny"]
    assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_the_shared_gpu_is_one_claim_held_by_all_three_services() -> None:
    built = base_with(("gpu-sharing-mps",))
    (claim,) = of_kind(built, "ResourceClaim")
    holders = {
        workload["metadata"]["name"]
        for workload in workloads(built)
        for held in workload["spec"]["template"]["spec"].get("resourceClaims", [])
        if held["resourceClaimName"] == claim["metadata"]["name"]
    }
    assert holders == {"reasoner", "speech-gen", "codec"}


def test_production_names_every_image_by_digest() -> None:
    images = {container["image"] for workload in workloads(overlay("production")) for container in containers(workload)}
    assert not [image for image in images if "@sha256:" not in image]


def test_weights_are_fetched_before_and_read_only_after() -> None:
    for workload in of_kind(base_with(()), "Deployment"):
        if workload["metadata"]["name"] == "gateway":
            continue
        fetching, serving = containers(workload)
        assert fetching["image"] == serving["image"]
        mounts = {mount["mountPath"]: mount for mount in serving["volumeMounts"]}
        assert mounts["/models"]["readOnly"]
        assert mounts["/compile-cache"]["subPath"] == "compile-cache"
