"""The security settings of every pod, and which pods may call which."""

import re
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
import yaml

from gateway.settings import GatewaySettings
from tests.support.helm import chart_with, is_hook
from tests.support.manifests import (
    DEPLOY,
    K8S,
    OVERLAYS,
    Manifest,
    base_with,
    containers,
    environment,
    of_kind,
    overlay,
    processes,
    telling_combinations,
    workloads,
)
from tests.support.paths import ROOT

LABEL = "app.kubernetes.io/name"

every_build = pytest.mark.parametrize(
    "manifests",
    [
        *(pytest.param(lambda name=name: overlay(name), id=name) for name in OVERLAYS),
        *(
            pytest.param(lambda choice=choice: base_with(choice), id="+".join(choice) or "base")
            for choice in telling_combinations()
        ),
        *(
            pytest.param(
                lambda choice=choice: installed(choice),
                id=f"chart-{'+'.join(choice)}",
                marks=[pytest.mark.slow] * bool(choice),
            )
            for choice in telling_combinations()
        ),
    ],
)


def installed(choice: tuple[str, ...]) -> list[Manifest]:
    """What the Helm chart installs for these components."""
    return [manifest for manifest in chart_with(choice) if not is_hook(manifest)]


@every_build
def test_every_pod_is_hardened_the_same_way(manifests: Any) -> None:
    for workload in workloads(manifests()):
        assert_hardened(workload["spec"]["template"]["spec"])


def test_the_pod_of_helm_test_is_hardened_the_same_way_and_reaches_the_gateway_only() -> None:
    hooks = [manifest for manifest in chart_with(()) if is_hook(manifest)]
    (pod,) = of_kind(hooks, "Pod")
    assert_hardened(pod["spec"])
    (account,) = of_kind(hooks, "ServiceAccount")
    assert pod["spec"]["serviceAccountName"] == account["metadata"]["name"]
    assert account["automountServiceAccountToken"] is False
    (policy,) = of_kind(hooks, "NetworkPolicy")
    selected = policy["spec"]["podSelector"]["matchLabels"]
    assert selected.items() <= pod["metadata"]["labels"].items()
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    (to_gateway, *to_name_servers) = policy["spec"]["egress"]
    assert to_gateway == {"to": [{"podSelector": {"matchLabels": {LABEL: "gateway"}}}], "ports": [{"port": 8080}]}
    (gateway,) = [it for it in of_kind(base_with(()), "NetworkPolicy") if it["metadata"]["name"] == "gateway"]
    assert all(rule in gateway["spec"]["egress"] for rule in to_name_servers)


def assert_hardened(pod: Manifest) -> None:
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
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
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


def test_oidc_gives_the_gateway_its_settings_and_a_way_to_the_provider() -> None:
    manifests = base_with(("oidc",))
    ((_, container),) = [(pod, it) for pod, it, kind in processes(manifests) if kind is GatewaySettings]
    given = environment(container, manifests)
    assert given["CHROMA_OIDC_ISSUER"].startswith("https://")
    assert given["CHROMA_OIDC_AUDIENCE"]
    before = {policy["metadata"]["name"]: policy for policy in of_kind(base_with(()), "NetworkPolicy")}
    after = {policy["metadata"]["name"]: policy for policy in of_kind(manifests, "NetworkPolicy")}
    added = after.pop("identity-provider")
    assert after == before
    assert added["spec"]["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "gateway"}}
    assert added["spec"]["policyTypes"] == ["Egress"]
    (rule,) = added["spec"]["egress"]
    assert rule["ports"] == [{"port": 443}]
    blocks = [to["ipBlock"] for to in rule["to"]]
    private = [ip_network(name) for block in blocks for name in block["except"]]
    for address in map(ip_address, ("10.0.0.1", "169.254.169.254", "192.168.1.1", "fd00::1")):
        assert any(address in network for network in private)


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


def test_weights_that_a_node_keeps_are_read_only_and_need_no_way_to_the_outside() -> None:
    manifests = base_with(("node-local-weights",))
    assert not of_kind(manifests, "PersistentVolumeClaim")
    for workload in of_kind(manifests, "Deployment"):
        if workload["metadata"]["name"] == "gateway":
            continue
        (serving,) = containers(workload)
        mounts = {mount["mountPath"]: mount for mount in serving["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in workload["spec"]["template"]["spec"]["volumes"]}
        assert set(volumes) == {mount["name"] for mount in mounts.values()}
        assert mounts["/models"]["readOnly"]
        assert "@sha256:" in volumes[mounts["/models"]["name"]]["image"]["reference"]
        assert volumes[mounts["/compile-cache"]["name"]]["ephemeral"]["volumeClaimTemplate"]
        assert environment(serving, manifests)["CHROMA_MODEL"].startswith("/models/")
    for policy in of_kind(manifests, "NetworkPolicy"):
        if policy["metadata"]["name"] in ("reasoner", "speech-gen", "codec"):
            ports = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
            assert ports == {53, 5353}, "name servers only"


def test_every_component_is_in_the_operators_table() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    table = page[page.index("| component | adds | needs |") :].split("\n\n")[0]
    told = set(re.findall(r"^\| `([a-z-]+)` \|", table, flags=re.MULTILINE))
    assert told == {folder.name for folder in (K8S / "components").iterdir()}


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_service_writes_where_another_reads_its_compiled_code(name: str) -> None:
    caches: dict[str, str] = {}
    for workload in of_kind(overlay(name), "Deployment"):
        service = workload["metadata"]["name"]
        if service == "gateway":
            continue
        serving = containers(workload)[-1]
        writable = {mount["mountPath"]: mount for mount in serving["volumeMounts"] if not mount.get("readOnly")}
        shared = [mount for mount in writable.values() if mount["name"] == "models"]
        caches[service] = writable["/compile-cache"]["subPath"]
        assert shared == [writable["/compile-cache"]]
        folders = {entry["value"] for entry in serving["env"] if "CACHE" in entry["name"]}
        assert all(folder.startswith("/compile-cache/") for folder in folders)
        assert len(folders) == 3
    assert caches == {service: f"compile-cache/{service}" for service in ("reasoner", "speech-gen", "codec")}


def test_compose_gives_each_service_a_compile_cache_of_its_own() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    caches = {
        name: [volume for volume in service["volumes"] if not volume.endswith(":ro")]
        for name, service in services.items()
        if name in ("reasoner", "speech-gen", "codec")
    }
    assert caches == {name: [f"compile-cache-{name}:/compile-cache"] for name in caches}
    assert len(caches) == 3


@pytest.mark.parametrize("name", ["gateway", "reasoner", "speech-gen", "codec"])
def test_pods_reach_the_name_servers_of_every_kind_of_cluster(name: str) -> None:
    policies = of_kind(base_with(()), "NetworkPolicy")
    (policy,) = [policy for policy in policies if policy["metadata"]["name"] == name]
    reached = {
        (
            next(
                iter(peer.get("namespaceSelector", {}).get("matchLabels", {}).values()),
                peer.get("ipBlock", {}).get("cidr"),
            ),
            port,
        )
        for rule in policy["spec"]["egress"]
        for peer in rule["to"]
        for port in {port["port"] for port in rule["ports"]}
    }
    assert {("kube-system", 53), ("169.254.20.10/32", 53), ("openshift-dns", 5353)} <= reached
