"""Values of the Helm chart: which are refused, and what each of them does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.helm.values import table
from tests.support.helm import CHART, helm, template
from tests.support.manifests import Manifest, containers, of_kind, workloads

WORKLOADS = {
    "gateway": "gateway",
    "reasoner": "reasoner",
    "speechGen": "speech-gen",
    "codec": "codec",
    "valkey": "valkey",
}


def nested(name: str, value: Any) -> dict[str, Any]:
    """The values with one value set by its dotted name."""
    for part in reversed(name.split(".")):
        value = {part: value}
    return value


BAD = {
    "an unknown name": ("tsl.enabled", True, "Additional property tsl is not allowed"),
    "an unknown name below another": ("codec.replicsa", 2, "Additional property replicsa is not allowed"),
    "a text for a number": ("codec.replicas", "two", "codec.replicas: Invalid type. Expected: integer, given: string"),
    "a negative number": ("gateway.replicas", -1, "gateway.replicas: Must be greater than or equal to 0"),
    "a text for a switch": ("monitoring.enabled", "yes", "monitoring.enabled: Invalid type. Expected: boolean"),
    "an unknown mode": ("gpu.mode", "mig", 'gpu.mode: gpu.mode must be one of the following: "none", "dedicated"'),
    "a digest without its kind": ("codec.image.digest", "ab" * 32, "codec.image.digest: Does not match pattern"),
    "no name of a Secret": ("secrets.redis", "", "secrets.redis: String length must be greater than or equal to 1"),
    "a misspelt setting": ("reasoner.settings.CHROMA_SLOTZ", 4, "Additional property CHROMA_SLOTZ is not allowed"),
    "a setting of another process": ("codec.settings.CHROMA_TURN_LIMIT_S", 9, "CHROMA_TURN_LIMIT_S is not allowed"),
    "a setting that is a list": ("codec.settings.CHROMA_SLOTS", [4], "Invalid type. Expected: [string,number,boolean]"),
    "the store's password": ("gateway.settings.CHROMA_REDIS_URL", "redis://u:p@h/0", "CHROMA_REDIS_URL is not allowed"),
    "API keys": ("gateway.settings.CHROMA_API_KEYS", "key:acme", "CHROMA_API_KEYS is not allowed"),
    "the store's keys": ("gateway.settings.CHROMA_STORE_KEYS", "a:b", "CHROMA_STORE_KEYS is not allowed"),
    "a bad host": ("gatewayApi.httpHost", "https://voice.example.com", "gatewayApi.httpHost: Does not match pattern"),
    "an address without http": ("tracing.endpoint", "collector:4317", "tracing.endpoint: Does not match pattern"),
}

CONFLICTS = {
    "autoscaling alone": ({"autoscaling": {"enabled": True}}, "autoscaling.enabled needs monitoring.enabled"),
    "night alone": ({"night": {"enabled": True}}, "night.enabled needs autoscaling.enabled"),
    "one host for both": (
        {"gatewayApi": {"enabled": True, "grpcHost": "a.example.com", "httpHost": "a.example.com"}},
        "grpcHost and gatewayApi.httpHost must differ",
    ),
}


def refusal(values: dict[str, Any], *options: str) -> str:
    """What helm says about bad values."""
    done = helm("template", "voice", CHART, *options, values=values)
    assert done.returncode != 0
    return done.stderr


@pytest.mark.parametrize("case", ["a misspelt setting", "the store's password"])
def test_a_wrong_value_is_refused_with_its_name(case: str) -> None:
    name, value, message = BAD[case]
    assert message in refusal(nested(name, value))


@pytest.mark.slow
@pytest.mark.parametrize("case", BAD)
def test_every_kind_of_wrong_value_is_refused_with_its_name(case: str) -> None:
    name, value, message = BAD[case]
    assert message in refusal(nested(name, value))


@pytest.mark.slow
@pytest.mark.parametrize("case", CONFLICTS)
def test_values_that_need_each_other_are_refused_apart(case: str) -> None:
    values, message = CONFLICTS[case]
    assert message in refusal(values, "--kube-version", "1.37.0")


@pytest.mark.slow
def test_the_cluster_must_be_new_enough() -> None:
    assert "1.34 or later" in refusal({"gpu": {"mode": "mps"}}, "--kube-version", "1.33.0")
    node_local = {"nodeLocalWeights": {"enabled": True}}
    assert "1.36 or later" in refusal(node_local, "--kube-version", "1.35.0")
    assert "incompatible with Kubernetes v1.29.0" in refusal({}, "--kube-version", "1.29.0")


def test_no_setting_that_is_a_secret_can_be_given_as_a_value() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    names = schema["properties"]["gateway"]["properties"]["settings"]["properties"]
    assert "CHROMA_MAX_CONVERSATIONS" in names
    for name in ("REDIS_URL", "API_KEYS", "STORE_KEYS", "PAGE_TOKEN", "WEBRTC_TURN", "TWILIO_AUTH_TOKEN"):
        assert f"CHROMA_{name}" not in names


def test_every_value_is_explained_in_the_file_and_in_the_readme() -> None:
    text = " ".join(line.strip().removeprefix("# ") for line in (CHART / "values.yaml").read_text().splitlines())
    readme = (CHART / "README.md").read_text()
    for value in table():
        assert value.meaning.endswith("."), value.name
        assert f"{value.meaning} {value.name.rpartition('.')[2]}:" in text
        assert f"| `{value.name}` |" in readme


def placed(values: dict[str, Any]) -> dict[str, Manifest]:
    return {it["metadata"]["name"]: it for it in workloads(template(values))}


@pytest.mark.slow
@pytest.mark.parametrize("workload", WORKLOADS)
def test_every_workload_takes_its_place_labels_and_resources_from_values(workload: str) -> None:
    given: dict[str, Any] = {
        "image": {"repository": "mirror/of-it", "tag": "7"},
        "resources": {"requests": {"cpu": "3", "memory": "5Gi"}, "limits": {"memory": "6Gi"}},
        "nodeSelector": {"pool": "voice"},
        "tolerations": [{"key": "pool", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [{"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
        "labels": {"team": "voice"},
        "annotations": {"owner": "ann"},
        "podLabels": {"cost": "42"},
        "podAnnotations": {"sidecar.istio.io/inject": "false"},
        "serviceAccount": {"annotations": {"cloud/role": "reader"}},
        "service": {"annotations": {"lb": "internal"}},
    }
    name = WORKLOADS[workload]
    values = {workload: given, "commonAnnotations": {"all": "yes"}, "commonLabels": {"env": "test"}}
    manifests = template(values | {"image": {"pullSecrets": ["registry"], "pullPolicy": "Always"}})
    found = {it["kind"]: it for it in manifests if it["metadata"]["name"] == name}
    workload_found = found.get("Deployment") or found["StatefulSet"]
    assert workload_found["metadata"]["labels"].items() >= {"team": "voice", "env": "test"}.items()
    assert workload_found["metadata"]["annotations"] == {"owner": "ann", "all": "yes"}
    template_found = workload_found["spec"]["template"]
    assert template_found["metadata"]["labels"]["cost"] == "42"
    assert template_found["metadata"]["annotations"]["sidecar.istio.io/inject"] == "false"
    pod = template_found["spec"]
    assert pod["nodeSelector"] == given["nodeSelector"]
    assert pod["tolerations"] == given["tolerations"]
    assert pod["affinity"] == given["affinity"]
    assert pod["topologySpreadConstraints"] == given["topologySpreadConstraints"]
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    container = pod["containers"][0]
    assert container["imagePullPolicy"] == "Always"
    # Helm merges mappings, so what a file of values does not name stays.
    assert container["resources"]["requests"].items() >= given["resources"]["requests"].items()
    assert container["resources"]["limits"]["memory"] == "6Gi"
    digest = container["image"].partition("@")[2]
    assert container["image"] == "mirror/of-it:7" + (f"@{digest}" if workload == "valkey" else "")
    assert found["ServiceAccount"]["metadata"]["annotations"] == {"cloud/role": "reader", "all": "yes"}
    assert found["Service"]["metadata"]["annotations"] == {"lb": "internal", "all": "yes"}
    others = {it["metadata"]["name"]: it for it in workloads(manifests) if it["metadata"]["name"] != name}
    assert len(others) == 4
    for other in others.values():
        assert "nodeSelector" not in other["spec"]["template"]["spec"]


@pytest.mark.slow
def test_tolerations_are_added_to_those_of_the_gpu() -> None:
    own = {"key": "pool", "operator": "Exists"}
    codec = placed({"gpu": {"mode": "dedicated"}, "codec": {"tolerations": [own]}})["codec"]
    keys = [toleration["key"] for toleration in codec["spec"]["template"]["spec"]["tolerations"]]
    assert keys == ["nvidia.com/gpu", "pool"]


@pytest.mark.slow
def test_images_come_from_the_registry_by_tag_or_digest() -> None:
    digest = f"sha256:{'ab' * 32}"
    found = placed(
        {"image": {"registry": "registry.example.com/a", "tag": "2"}, "codec": {"image": {"digest": digest}}}
    )
    images = {name: {it["image"] for it in containers(workload)} for name, workload in found.items()}
    assert images["gateway"] == {"registry.example.com/a/chroma-voice/gateway:2"}
    assert images["codec"] == {f"registry.example.com/a/chroma-voice/codec@{digest}"}
    assert images["valkey"] == {it for it in images["valkey"] if it.startswith("docker.io/valkey/valkey:")}


@pytest.mark.slow
def test_settings_become_texts_and_beat_the_defaults() -> None:
    settings = {"CHROMA_MAX_CONVERSATIONS": 5000000, "CHROMA_REFLECTION": True, "CHROMA_INPUT_IDLE_S": 0.25}
    manifests = template({"gateway": {"settings": settings, "replicas": 3}})
    (config,) = [it for it in of_kind(manifests, "ConfigMap") if it["metadata"]["name"] == "gateway-settings"]
    assert config["data"] == {
        "CHROMA_MAX_CONVERSATIONS": "5000000",
        "CHROMA_REFLECTION": "true",
        "CHROMA_INPUT_IDLE_S": "0.25",
    }
    (gateway,) = [it for it in of_kind(manifests, "Deployment") if it["metadata"]["name"] == "gateway"]
    assert gateway["spec"]["replicas"] == 3
    sources = [it["configMapRef"]["name"] for it in containers(gateway)[0]["envFrom"]]
    assert sources == ["gateway-defaults", "gateway-settings"]


@pytest.mark.slow
def test_secrets_and_volumes_of_other_names_are_used() -> None:
    values = {
        "secrets": {"redis": "my-store", "apiKeys": "my-keys", "huggingface": "my-token"},
        "weights": {"volume": {"existingClaim": "my-weights"}},
        "valkey": {"storage": {"storageClass": "fast"}, "maxmemory": "1gb"},
    }
    manifests = template(values)
    text = json.dumps([workload["spec"] for workload in workloads(manifests)])
    for name in ("my-store", "my-keys", "my-token", "my-weights"):
        assert f'"{name}"' in text
    for name in ("redis", "chroma-voice-keys", "huggingface"):
        assert f'"name": "{name}", "key"' not in text
        assert f'"secretName": "{name}"' not in text
    assert not of_kind(manifests, "PersistentVolumeClaim")
    (store,) = of_kind(manifests, "StatefulSet")
    assert store["spec"]["volumeClaimTemplates"][0]["spec"]["storageClassName"] == "fast"
    (config,) = [it for it in of_kind(manifests, "ConfigMap") if it["metadata"]["name"] == "valkey"]
    assert "maxmemory 1gb\n" in config["data"]["valkey.conf"]


@pytest.mark.slow
def test_a_further_variable_comes_from_a_secret() -> None:
    variable = {"name": "CHROMA_STORE_KEYS", "valueFrom": {"secretKeyRef": {"name": "store-keys", "key": "keys"}}}
    gateway = placed({"gateway": {"extraEnv": [variable]}})["gateway"]
    assert variable in containers(gateway)[0]["env"]


def notes(folder: Path, values: dict[str, Any]) -> str:
    """What helm prints after an installation."""
    chart = folder / "chart"
    if not chart.exists():
        shutil.copytree(CHART, chart)
        shown = '{{ include (print $.Template.BasePath "/NOTES.txt") . | toJson }}'
        (chart / "templates" / "notes.yaml").write_text(
            f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: notes}}\ndata:\n  notes: {shown}\n"
        )
    manifests = template(values, chart=chart, namespace="talk")
    (found,) = [it["data"]["notes"] for it in manifests if it["metadata"]["name"] == "notes"]
    return found


@pytest.mark.slow
def test_the_notes_say_how_to_have_the_first_turn(tmp_path: Path) -> None:
    plain = notes(tmp_path, {})
    assert "WARNING: weights.revision is not set" in plain
    for step in (
        "create secret generic chroma-voice-keys --from-file=keys.json",
        "redis://chroma-voice:$password@valkey:6379/0",
        "rollout status deployment/gateway",
        "helm -n talk test voice --logs",
        "port-forward service/gateway",
        "chroma-voice talk QUESTION.wav --voice ann",
    ):
        assert step in plain
    assert "kubectl -n talk" in plain
    assert "chroma-voice talk QUESTION.wav --voice ann --out reply.wav --tls" not in plain
    values = {"gatewayApi": {"enabled": True}, "tls": {"enabled": True}, "weights": {"revision": "1" * 40}}
    public = notes(tmp_path, values)
    assert "WARNING" not in public
    assert "rediss://chroma-voice" in public
    assert "CHROMA_GATEWAY=grpc.voice.example.com:443" in public
    assert "--out reply.wav --tls" in public


@pytest.mark.slow
def test_the_chart_becomes_a_package_without_links(tmp_path: Path) -> None:
    done = helm("package", CHART, "--destination", tmp_path)
    assert done.returncode == 0, done.stderr
    (package,) = tmp_path.glob("*.tgz")
    # A release is stored in a Secret, which has at most 1 MiB.
    assert package.stat().st_size < 300_000
    done = helm("template", "voice", package)
    assert done.returncode == 0, done.stderr
    (config,) = [
        it
        for it in yaml.safe_load_all(done.stdout)
        if it and it["kind"] == "ConfigMap" and it["metadata"]["name"] == "turn-test"
    ]
    assert config["binaryData"]["question.flac"].startswith("ZkxhQ")
