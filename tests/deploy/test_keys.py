"""A gateway that other machines reach takes its API keys from a Secret or a folder that must exist."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from chroma_voice.address import is_loopback
from chroma_voice.keys_file import KeysFile
from gateway.access.keys import Keys
from gateway.settings import GatewaySettings
from tests.support.manifests import (
    DEPLOY,
    K8S,
    OVERLAYS,
    Manifest,
    base_with,
    combinations,
    containers,
    environment,
    of_kind,
    overlay,
    processes,
    telling_combinations,
    workloads,
)

SECRET = "chroma-voice-keys"
FILE = "CHROMA_API_KEYS_FILE"
OPEN = {"CHROMA_TRUSTED_NETWORK", "CHROMA_GATEWAY_TRUSTED_NETWORK"}
"""Variables that let callers in without a key."""
IN_PLAIN_TEXT = {"CHROMA_API_KEYS", "CHROMA_GATEWAY_API_KEYS"}
"""Variables that hold the keys themselves."""

every_build = pytest.mark.parametrize(
    "manifests",
    [
        *(pytest.param(lambda name=name: overlay(name), id=name) for name in OVERLAYS),
        *(
            pytest.param(
                lambda choice=choice: base_with(choice),
                id="+".join(choice) or "base",
                marks=() if choice in telling_combinations() else pytest.mark.slow,
            )
            for choice in combinations()
        ),
    ],
)

COMPOSE_FILES = sorted(path.name for path in DEPLOY.glob("compose*.yaml"))


def is_public(given: dict[str, str]) -> bool:
    """Whether other machines reach one of the gateway's listeners."""
    listeners = (given.get(name, "127.0.0.1:0") for name in ("CHROMA_LISTEN", "CHROMA_HTTP_LISTEN"))
    return not all(is_loopback(address) for address in listeners)


def assert_keys_must_exist(manifests: list[Manifest]) -> None:
    """Fail unless each gateway that others reach takes its keys from the Secret, and starts only when it exists."""
    found = [(pod, container) for pod, container, kind in processes(manifests) if kind is GatewaySettings]
    assert found, "no gateway"
    for pod, container in found:
        given = environment(container, manifests)
        assert not (OPEN | IN_PLAIN_TEXT) & set(given)
        if not is_public(given):
            continue
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        (volume,) = [volume for volume in pod["volumes"] if volume.get("secret", {}).get("secretName") == SECRET]
        assert volume["secret"]["optional"] is False
        assert "subPath" not in mounts[volume["name"]], "a file that is mounted by a subPath never changes"
        assert Path(given[FILE]).parent == Path(mounts[volume["name"]]["mountPath"])


def assert_compose_keys_must_exist(services: Manifest) -> None:
    """Fail unless the gateway takes its keys from a folder that must exist and be named."""
    gateway = services["gateway"]
    given: dict[str, str] = gateway["environment"]
    assert not (OPEN | IN_PLAIN_TEXT) & set(given)
    (folder,) = [
        volume
        for volume in gateway["volumes"]
        if isinstance(volume, dict) and volume["target"] == str(Path(given[FILE]).parent)
    ]
    assert folder["type"] == "bind"
    assert folder["read_only"] is True
    assert folder["bind"] == {"create_host_path": False}
    assert folder["source"].startswith("${KEYS_FOLDER:?")


@every_build
def test_a_gateway_that_others_reach_has_keys_from_a_secret_that_must_exist(manifests: Any) -> None:
    assert_keys_must_exist(manifests())


@every_build
def test_no_manifest_holds_keys_or_trusts_the_network(manifests: Any) -> None:
    built = manifests()
    assert SECRET not in {secret["metadata"]["name"] for secret in of_kind(built, "Secret")}
    names = {variable for workload in workloads(built) for part in containers(workload) for variable in _given(part)}
    names |= {name for config in of_kind(built, "ConfigMap") for name in config.get("data", {})}
    assert not names & (OPEN | IN_PLAIN_TEXT)


def _given(container: Manifest) -> Iterator[str]:
    return (variable["name"] for variable in container.get("env", []))


def _gateway(manifests: list[Manifest]) -> Manifest:
    return next(workload for workload in workloads(manifests) if workload["metadata"]["name"] == "gateway")


def _without_volume(manifests: list[Manifest]) -> None:
    pod = _gateway(manifests)["spec"]["template"]["spec"]
    pod["volumes"] = [volume for volume in pod["volumes"] if volume["name"] != "keys"]


def _with_optional_secret(manifests: list[Manifest]) -> None:
    volumes = _gateway(manifests)["spec"]["template"]["spec"]["volumes"]
    next(volume for volume in volumes if volume["name"] == "keys")["secret"]["optional"] = True


def _without_variable(manifests: list[Manifest]) -> None:
    for config in of_kind(manifests, "ConfigMap"):
        config.get("data", {}).pop(FILE, None)


def _with_trusted_network(manifests: list[Manifest]) -> None:
    container = _gateway(manifests)["spec"]["template"]["spec"]["containers"][0]
    container["env"].append({"name": "CHROMA_TRUSTED_NETWORK", "value": "true"})


def _with_keys_in_a_variable(manifests: list[Manifest]) -> None:
    container = _gateway(manifests)["spec"]["template"]["spec"]["containers"][0]
    container["env"].append({"name": "CHROMA_API_KEYS", "value": '{"KEY": "TENANT"}'})


def _with_a_file_elsewhere(manifests: list[Manifest]) -> None:
    for config in of_kind(manifests, "ConfigMap"):
        if FILE in config.get("data", {}):
            config["data"][FILE] = "/tmp/keys.json"


@pytest.mark.parametrize(
    "spoil",
    [
        _without_volume,
        _with_optional_secret,
        _without_variable,
        _with_trusted_network,
        _with_keys_in_a_variable,
        _with_a_file_elsewhere,
    ],
)
def test_a_manifest_with_a_way_around_the_keys_is_found(spoil: Callable[[list[Manifest]], None]) -> None:
    spoiled = copy.deepcopy(overlay("production"))
    spoil(spoiled)
    with pytest.raises((AssertionError, KeyError, ValueError)):
        assert_keys_must_exist(spoiled)


@pytest.mark.parametrize("name", [name for name in COMPOSE_FILES if "gpu" not in name])
def test_compose_takes_keys_from_a_folder_that_must_exist(name: str) -> None:
    assert_compose_keys_must_exist(yaml.safe_load((DEPLOY / name).read_text())["services"])


def test_the_compose_file_for_gpus_changes_nothing_of_the_gateway() -> None:
    assert COMPOSE_FILES == ["compose.gpu.yaml", "compose.yaml"]
    assert "gateway" not in yaml.safe_load((DEPLOY / "compose.gpu.yaml").read_text())["services"]


def test_the_overlays_say_how_to_make_the_secret() -> None:
    for name in OVERLAYS:
        comment = (K8S / "overlays" / name / "kustomization.yaml").read_text().partition("apiVersion")[0]
        assert SECRET in comment
    local = (K8S / "overlays" / "local" / "kustomization.yaml").read_text()
    assert "chroma-voice key new" in local
    assert f"create secret generic {SECRET} --from-file=keys.json" in local


def test_the_gateway_reads_what_the_command_writes(tmp_path: Path) -> None:
    file = KeysFile(tmp_path / "keys.json")
    key = file.add("me", "default", ["talk"], None)
    found = Keys({}, file.path).find(key)
    assert found is not None
    assert (found.key_id, found.tenant, sorted(found.scopes)) == ("me", "default", ["talk"])
    assert Keys({}, file.path).find("cv_other") is None


def test_envoy_lets_no_browser_name_its_tenant() -> None:
    config = yaml.safe_load((DEPLOY / "envoy" / "envoy.yaml").read_text())
    (listener,) = config["static_resources"]["listeners"]
    routes = listener["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]
    assert "chroma-tenant" in routes["request_headers_to_remove"]
    cors = routes["virtual_hosts"][0]["typed_per_filter_config"]["envoy.filters.http.cors"]
    assert "chroma-tenant" not in cors["allow_headers"]
