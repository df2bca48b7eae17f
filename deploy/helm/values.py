"""Every value of the chart: its name, its meaning, what it may be, and its default if the manifests do not say it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from deploy.helm.components import CONDITIONS, components, purpose, value_name
from gateway.settings import GatewaySettings
from services.codec.settings import CodecSettings
from services.common.settings import ServiceSettings
from services.common.variables import shared_name
from services.reasoner.settings import ReasonerSettings
from services.speech_gen.settings import SpeechGenSettings

Schema = dict[str, Any]

SETTINGS: dict[str, type[ServiceSettings]] = {
    "gateway": GatewaySettings,
    "reasoner": ReasonerSettings,
    "speech-gen": SpeechGenSettings,
    "codec": CodecSettings,
}
"""The settings of each process of ours."""

WORKLOADS = (*SETTINGS, "valkey")

NAMES_AN_ADDRESS_WITH_A_PASSWORD = {"redis_url"}
"""Settings that are a secret although their type does not say so."""


class FromManifests:
    """The default of a value that stands in the kustomize manifests."""


FROM_MANIFESTS = FromManifests()

TEXT: Schema = {"type": "string"}
NAME: Schema = {"type": "string", "minLength": 1}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
COUNT_OR_SHARE: Schema = {"type": ["integer", "string"], "minimum": 0, "pattern": "^[0-9]+%$"}
TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
OBJECT: Schema = {"type": "object"}
OBJECTS: Schema = {"type": "array", "items": {"type": "object"}}
NAMES: Schema = {"type": "array", "items": NAME}
DIGEST: Schema = {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"}
QUANTITY: Schema = {"type": ["string", "number"]}
QUANTITIES: Schema = {"type": "object", "additionalProperties": QUANTITY}
HOST: Schema = {"type": "string", "pattern": "^[a-z0-9*]([a-z0-9.-]*[a-z0-9])?$"}
URL: Schema = {"type": "string", "pattern": '^https?://[^\\s"\\\\{}]+$'}


@dataclass(frozen=True)
class Value:
    """A value by its dotted name."""

    name: str
    meaning: str
    schema: Schema
    default: Any = FROM_MANIFESTS


def settings_schema(workload: str) -> Schema:
    """The settings of a process that are no secrets, by the names of their variables."""
    fields = SETTINGS[workload].model_fields
    names = [
        shared_name(name)
        for name, field in fields.items()
        if name not in NAMES_AN_ADDRESS_WITH_A_PASSWORD and SecretStr.__name__ not in str(field.annotation)
    ]
    every = {"additionalProperties": {"type": ["string", "number", "boolean"]}}
    known = dict.fromkeys(sorted(names), True)
    return {"type": "object", "additionalProperties": False, "properties": known, "allOf": [every]}


def table() -> list[Value]:
    """Every value, in the order of values.yaml."""
    return [*_OF_ALL, *(value for name in WORKLOADS for value in _of_workload(name)), *_OF_PARTS, *_new_components()]


_OF_ALL = (
    Value(
        "image.registry", "Registry before the names of our four images, such as registry.example.com/team.", TEXT, ""
    ),
    Value("image.tag", "Tag of our four images. Empty: the chart's appVersion.", TEXT, ""),
    Value(
        "image.pullPolicy",
        "When nodes pull images: Always, IfNotPresent or Never. Empty: Kubernetes decides.",
        {"type": "string", "enum": ["", "Always", "IfNotPresent", "Never"]},
        "",
    ),
    Value("image.pullSecrets", "Names of Secrets with credentials for the registry, for all pods.", NAMES, []),
    Value("commonLabels", "Further labels of every object, not of pods.", TEXTS, {}),
    Value("commonAnnotations", "Annotations of every object, not of pods.", TEXTS, {}),
    Value(
        "namespace.create",
        "Make the namespace, with Pod Security `restricted`. For `helm template` only: a release needs it before.",
        FLAG,
        False,
    ),
    Value("secrets.redis", "Existing Secret with the store's `url` and, for the chart's Valkey, `password`.", NAME),
    Value("secrets.apiKeys", "Existing Secret with `keys.json`, the hashes of the API keys.", NAME),
    Value("secrets.huggingface", "Existing Secret with `token`, for weights that need one. It may be missing.", NAME),
    Value(
        "weights.folder",
        "Folder of the weights on the volume. New weights need a new folder.",
        {**NAME, "pattern": "^/"},
    ),
    Value("weights.source", "Hub id of the weights, or random:PRESET for seeded random weights.", NAME),
    Value("weights.revision", "The commit of the hub id that you reviewed, 40 hex digits. Zeros are refused.", NAME),
    Value(
        "weights.sha256", "Digest of the files, which the log of the first download shows. Empty: not compared.", TEXT
    ),
    Value("weights.volume.existingClaim", "A PersistentVolumeClaim of yours in place of the chart's.", TEXT, ""),
    Value("weights.volume.accessModes", "ReadWriteOnce is enough for one node.", NAMES),
    Value("weights.volume.size", "Size of the volume with weights and compiled code.", QUANTITY),
    Value("weights.volume.storageClass", "Its storage class. Empty: the cluster's default.", TEXT, ""),
    Value("weights.resources.requests", "Requests of the init container that fetches the weights.", QUANTITIES),
    Value("weights.resources.limits", "Limits of the same container.", QUANTITIES),
)


def _of_workload(workload: str) -> Iterator[Value]:
    name = value_name(workload)
    if workload == "valkey":
        yield Value(
            "valkey.enabled", "The chart's store. false: a store of yours, whose url is in the Secret.", FLAG, True
        )
    yield Value(f"{name}.image.repository", f"Image of {workload}.", NAME)
    yield Value(f"{name}.image.tag", "Its tag, in place of image.tag." if workload in SETTINGS else "Its tag.", TEXT)
    yield Value(f"{name}.image.digest", "Its digest, sha256:...; it decides, whatever the tag is.", DIGEST)
    if workload in SETTINGS:
        yield Value(f"{name}.replicas", "Number of pods, unless autoscaling.enabled.", COUNT)
        if workload != "gateway":
            yield Value(f"{name}.autoscaling.minReplicas", "Least pods with autoscaling.enabled.", COUNT)
        else:
            yield Value(
                f"{name}.autoscaling.minReplicas", "Least pods with autoscaling.enabled.", {**COUNT, "minimum": 1}
            )
        yield Value(f"{name}.autoscaling.maxReplicas", "Most pods with autoscaling.enabled.", {**COUNT, "minimum": 1})
        meaning = "Settings CHROMA_* (docs/settings.md). Secrets are refused here: give them in extraEnv."
        yield Value(f"{name}.settings", meaning, settings_schema(workload), {})
        meaning = "Further variables as a pod has them, such as a valueFrom with a secretKeyRef."
        yield Value(f"{name}.extraEnv", meaning, OBJECTS, [])
    else:
        yield Value("valkey.maxmemory", "Memory for data, in Valkey's units. A full store refuses writes.", NAME)
        yield Value("valkey.storage.size", "Size of the volume.", QUANTITY)
        yield Value("valkey.storage.storageClass", "Its storage class. Empty: the cluster's default.", TEXT, "")
    yield Value(f"{name}.resources.requests", "CPU, memory and disk that a pod reserves.", QUANTITIES)
    yield Value(f"{name}.resources.limits", "Limits. A CPU limit makes gaps in speech.", QUANTITIES)
    yield Value(f"{name}.nodeSelector", "Labels of the nodes on which pods may run.", TEXTS, {})
    yield Value(f"{name}.tolerations", "Tolerations, in addition to those of gpu.mode.", OBJECTS, [])
    yield Value(f"{name}.affinity", "Affinity of pods.", OBJECT, {})
    spread: Any = FROM_MANIFESTS if workload in SETTINGS else []
    yield Value(f"{name}.topologySpreadConstraints", "How pods spread over nodes and zones.", OBJECTS, spread)
    yield Value(f"{name}.labels", "Further labels of the workload.", TEXTS, {})
    yield Value(f"{name}.annotations", "Annotations of the workload.", TEXTS, {})
    yield Value(f"{name}.podLabels", "Further labels of its pods.", TEXTS, {})
    yield Value(f"{name}.podAnnotations", "Annotations of its pods.", TEXTS, {})
    yield Value(
        f"{name}.serviceAccount.annotations", "Annotations of its ServiceAccount, such as a cloud role.", TEXTS, {}
    )
    if workload == "gateway":
        types = {"type": "string", "enum": ["ClusterIP", "NodePort", "LoadBalancer"]}
        yield Value("gateway.service.type", "Type of the public Service.", types)
    yield Value(f"{name}.service.annotations", "Annotations of its Service.", TEXTS, {})


_OF_PARTS = (
    Value(
        "gpu.mode",
        "none: CPUs. dedicated: a GPU for each replica of each service. mps: one GPU for all three, side by side (DRA "
        "driver). time-slicing: one GPU for all three, in turns.",
        {"type": "string", "enum": ["none", "dedicated", "mps", "time-slicing"]},
        "none",
    ),
    Value(
        "gpu.rollingUpdate.maxUnavailable",
        "With dedicated GPUs: pods that may be away during a rollout.",
        COUNT_OR_SHARE,
    ),
    Value("gpu.rollingUpdate.maxSurge", "With dedicated GPUs: spare GPUs that a rollout may use.", COUNT_OR_SHARE),
    Value(
        "nvidiaRuntime.enabled", "Pods with a model run under a RuntimeClass, as k3s needs it for GPUs.", FLAG, False
    ),
    Value("nvidiaRuntime.className", "The RuntimeClass, which must exist.", NAME),
    Value("nodeLocalWeights.enabled", "Weights in an image that each node keeps, in place of the volume.", FLAG, False),
    Value("nodeLocalWeights.image", "The image with the weights: name@sha256:digest.", NAME),
    Value(
        "tls.enabled",
        "Mutual TLS between gateway, services and Valkey. Needs cert-manager and a rediss:// url.",
        FLAG,
        False,
    ),
    Value(
        "gatewayApi.enabled", "Public host names by the Gateway API. Needs its CRDs (v1) and a controller.", FLAG, False
    ),
    Value("gatewayApi.className", "The GatewayClass.", NAME),
    Value("gatewayApi.grpcHost", "Public host name of gRPC. It must differ from that of HTTP.", HOST),
    Value("gatewayApi.httpHost", "Public host name of HTTP and WebSocket.", HOST),
    Value("gatewayApi.tlsSecret", "Existing Secret with a certificate for both names.", NAME),
    Value("oidc.enabled", "Tokens of an OpenID Connect provider, beside API keys.", FLAG, False),
    Value("oidc.issuer", "Issuer of the tokens.", URL),
    Value("oidc.audience", "Audience that a token must name.", NAME),
    Value("monitoring.enabled", "Scraping, alerts and dashboards. Needs the Prometheus operator.", FLAG, False),
    Value("monitoring.namespace", "Namespace of Prometheus, which may then read the metrics.", NAME),
    Value(
        "autoscaling.enabled",
        "Replicas follow the load. Needs KEDA 2.18, metrics-server and monitoring.enabled.",
        FLAG,
        False,
    ),
    Value("autoscaling.prometheusAddress", "The Prometheus that KEDA asks.", URL),
    Value("night.enabled", "No reasoner and no speech generator at night. Needs autoscaling.enabled.", FLAG, False),
    Value("night.timezone", "Time zone of the two times.", NAME),
    Value("night.start", "When the day begins, as cron writes it.", NAME),
    Value("night.end", "When the day ends.", NAME),
    Value("night.replicas", "Least pods by day.", {**COUNT, "minimum": 1}),
    Value("tracing.enabled", "Spans of every process go to an OpenTelemetry collector.", FLAG, False),
    Value("tracing.endpoint", "The collector: OTLP over gRPC, on port 4317.", URL),
    Value("tracing.namespace", "Namespace of the collector.", NAME),
    Value(
        "priority.enabled",
        "A class of priority for all pods: on a full cluster, others make room for them.",
        FLAG,
        False,
    ),
    Value("priority.className", "Name of the class, which is one for the whole cluster.", NAME),
    Value("priority.value", "Its value.", {"type": "integer"}),
    Value(
        "test.url",
        "Where `helm test` asks its question. With TLS of the gateway's own: https://gateway:8080.",
        URL,
        "http://gateway:8080",
    ),
    Value(
        "test.keySecret",
        "Secret with an API key as `key`, scopes talk and voices, for `helm test`. It may be missing.",
        NAME,
        "chroma-voice-test-key",
    ),
    Value("test.timeoutSeconds", "How long the turn may take.", {**COUNT, "minimum": 1}, 300),
)


def _new_components() -> list[Value]:
    """A switch for each component that has no line of its own above."""
    names = [name for name in components() if name not in CONDITIONS]
    return [Value(f"{value_name(name)}.enabled", purpose(name), FLAG, False) for name in names]
