"""Where the values stand in the objects."""

from __future__ import annotations

from deploy.helm.chart import Chart, given
from deploy.helm.components import value_name
from deploy.helm.tree import Action, Choice, Lines, Map, Node, Sequence, plain, settled
from deploy.helm.values import SETTINGS, WORKLOADS

POD = "spec/template/spec"
NAMESPACE = "{{ .Release.Namespace }}"


def fill(chart: Chart) -> None:
    """Put every value into its places."""
    _texts(chart)
    _weights(chart)
    for workload in WORKLOADS:
        _workload(chart, workload)
    _gateway(chart)
    _services(chart)
    _valkey(chart)
    _parts(chart)
    for name in chart.objects:
        _metadata(chart, name)


def _texts(chart: Chart) -> None:
    chart.texts(
        [
            (r"(?:gateway|reasoner|speech-gen|codec|valkey)\.(chroma-voice)\b(?!/)", NAMESPACE, ""),
            (r'namespace="(chroma-voice)"', NAMESPACE, ""),
            (
                r"^(http://prometheus-operated\S+)$",
                "{{ .Values.autoscaling.prometheusAddress }}",
                "autoscaling.prometheusAddress",
            ),
            (r"^(http://otel-collector\S+)$", "{{ .Values.tracing.endpoint }}", "tracing.endpoint"),
            (r"^(grpc\.voice\.example\.com)$", "{{ .Values.gatewayApi.grpcHost }}", "gatewayApi.grpcHost"),
            (r"^(voice\.example\.com)(?=,|$)", "{{ .Values.gatewayApi.httpHost }}", "gatewayApi.httpHost"),
            (r"^(https://login\.example\.com/\S*)$", "{{ .Values.oidc.issuer }}", "oidc.issuer"),
            (r"^maxmemory (\w+)$", "{{ .Values.valkey.maxmemory }}", "valkey.maxmemory"),
        ]
    )


def _weights(chart: Chart) -> None:
    for variable, value in (
        ("CHROMA_MODEL", "folder"),
        ("WEIGHTS_SOURCE", "source"),
        ("WEIGHTS_REVISION", "revision"),
        ("WEIGHTS_SHA256", "sha256"),
    ):
        chart.scalar("ConfigMap/weights", f"data/{variable}", f"weights.{value}")
    claim = "PersistentVolumeClaim/models"
    chart.structure(claim, "spec/accessModes", "weights.volume.accessModes")
    chart.scalar(claim, "spec/resources/requests/storage", "weights.volume.size")
    _storage_class(chart, claim, "spec", "weights.volume.storageClass")
    chart.objects[claim] = Choice((".Values.weights.volume.existingClaim",), None, chart.objects[claim])


def _storage_class(chart: Chart, name: str, path: str, value: str) -> None:
    chart.write(name, path, "storageClassName", lambda indent: _given_text("storageClassName", value, indent))


def _given_text(key: str, value: str, indent: int) -> list[str]:
    space = " " * indent
    return [f"{space}{{{{- with .Values.{value} }}}}", f"{space}{key}: {{{{ . | quote }}}}", f"{space}{{{{- end }}}}"]


def _workload(chart: Chart, workload: str) -> None:
    value = value_name(workload)
    name = f"{'Deployment' if workload in SETTINGS else 'StatefulSet'}/{workload}"
    container = f"{POD}/containers/{workload}"
    _image(chart, name, container, workload)
    chart.structure(name, f"{container}/resources/requests", f"{value}.resources.requests")
    chart.structure(name, f"{container}/resources/limits", f"{value}.resources.limits")
    chart.optional(name, POD, "nodeSelector", f"{value}.nodeSelector")
    chart.optional(name, POD, "affinity", f"{value}.affinity")
    chart.list_with(name, POD, "tolerations", f"{value}.tolerations")
    chart.write(name, POD, "imagePullSecrets", _pull_secrets)
    chart.spread(name, "spec/template/metadata/labels", f"{value}.podLabels")
    if workload in SETTINGS:
        chart.structure(name, f"{POD}/topologySpreadConstraints", f"{value}.topologySpreadConstraints")
        chart.scalar(name, "spec/replicas", f"{value}.replicas")
        chart.scalar(f"ScaledObject/{workload}", "spec/minReplicaCount", f"{value}.autoscaling.minReplicas")
        chart.scalar(f"ScaledObject/{workload}", "spec/maxReplicaCount", f"{value}.autoscaling.maxReplicas")
        chart.spread(name, f"{container}/env", f"{value}.extraEnv")
        settings = f'include "chroma-voice.settings" .Values.{value}.settings'
        chart.write(f"ConfigMap/{workload}-settings", "", "data", lambda indent: _given_lines(settings, "data", indent))
    else:
        chart.optional(name, POD, "topologySpreadConstraints", f"{value}.topologySpreadConstraints")


def _given_lines(expression: str, key: str, indent: int) -> list[str]:
    return [f"{{{{- with {expression} }}}}", f"{key}:", f"  {{{{- . | nindent {indent + 2} }}}}", "{{- end }}"]


def _image(chart: Chart, name: str, container: str, workload: str) -> None:
    value = value_name(workload)

    def new(node: Node) -> Node:
        image, _, digest = str(plain(node)).partition("@")
        repository, _, tag = image.rpartition(":")
        chart.note(f"{value}.image.repository", repository)
        chart.note(f"{value}.image.digest", digest)
        chart.note(f"{value}.image.tag", "" if workload in SETTINGS else tag)
        ours = (
            ".Values.image.registry (.Values.image.tag | default .Chart.AppVersion)"
            if workload in SETTINGS
            else '"" ""'
        )
        return Action(f'{{{{ include "chroma-voice.image" (list .Values.{value}.image {ours}) | quote }}}}')

    chart.change(name, f"{container}/image", new)
    pull = "imagePullPolicy"
    chart.write(name, container, pull, lambda indent: _given_text(pull, "image.pullPolicy", indent))


def _pull_secrets(indent: int) -> list[str]:
    space = " " * indent
    return [
        f"{space}{{{{- with .Values.image.pullSecrets }}}}",
        f"{space}imagePullSecrets:",
        f"{space}  {{{{- range . }}}}",
        f"{space}  - name: {{{{ . | quote }}}}",
        f"{space}  {{{{- end }}}}",
        f"{space}{{{{- end }}}}",
    ]


def _gateway(chart: Chart) -> None:
    deployment = "Deployment/gateway"
    url = f"{POD}/containers/gateway/env/CHROMA_REDIS_URL/valueFrom/secretKeyRef/name"
    chart.scalar(deployment, url, "secrets.redis")
    chart.scalar(deployment, f"{POD}/volumes/keys/secret/secretName", "secrets.apiKeys")
    chart.scalar("Service/gateway", "spec/type", "gateway.service.type")


def _services(chart: Chart) -> None:
    for workload in ("reasoner", "speech-gen", "codec"):
        name = f"Deployment/{workload}"
        fetching = f"{POD}/initContainers/weights"
        _image(chart, name, fetching, workload)
        chart.structure(name, f"{fetching}/resources/requests", "weights.resources.requests")
        chart.structure(name, f"{fetching}/resources/limits", "weights.resources.limits")
        chart.scalar(name, f"{fetching}/env/HF_TOKEN/valueFrom/secretKeyRef/name", "secrets.huggingface")
        claim = Action('{{ .Values.weights.volume.existingClaim | default "models" | quote }}')
        chart.change(name, f"{POD}/volumes/models/persistentVolumeClaim/claimName", lambda _, claim=claim: claim)
        for part in ("maxUnavailable", "maxSurge"):
            path = f"spec/strategy/rollingUpdate/{part}"
            chart.scalar(name, path, f"gpu.rollingUpdate.{part}", branch='(eq .Values.gpu.mode "dedicated")')
        chart.scalar(name, f"{POD}/runtimeClassName", "nvidiaRuntime.className")
        chart.scalar(name, f"{POD}/volumes/models/image/reference", "nodeLocalWeights.image")


def _valkey(chart: Chart) -> None:
    store = "StatefulSet/valkey"
    password = f"{POD}/containers/valkey/env/REDISCLI_AUTH/valueFrom/secretKeyRef/name"
    chart.scalar(store, password, "secrets.redis")
    claim = "spec/volumeClaimTemplates/0/spec"
    chart.scalar(store, f"{claim}/resources/requests/storage", "valkey.storage.size")
    _storage_class(chart, store, claim, "valkey.storage.storageClass")


def _parts(chart: Chart) -> None:
    chart.scalar("Gateway/public", "spec/gatewayClassName", "gatewayApi.className")
    for listener in ("grpc", "http"):
        path = f"spec/listeners/{listener}/tls/certificateRefs/public-tls/name"
        chart.scalar("Gateway/public", path, "gatewayApi.tlsSecret")
    chart.scalar("ConfigMap/gateway-defaults", "data/CHROMA_OIDC_AUDIENCE", "oidc.audience")
    label = "namespaceSelector/matchLabels"
    for name, path, value in (
        ("NetworkPolicy/metrics", "spec/ingress/0/from/0", "monitoring.namespace"),
        ("NetworkPolicy/traces", "spec/egress/0/to/0", "tracing.namespace"),
    ):
        chart.scalar(name, f"{path}/{label}/kubernetes.io~1metadata.name", value)
    for name in ("reasoner", "speech-gen"):
        trigger = f"ScaledObject/{name}", "spec/triggers/2/metadata"
        for key in ("timezone", "start", "end"):
            chart.scalar(trigger[0], f"{trigger[1]}/{key}", f"night.{key}")
        chart.number_in_text(trigger[0], f"{trigger[1]}/desiredReplicas", "night.replicas")
    chart.scalar("PriorityClass/chroma-voice", "metadata/name", "priority.className")
    chart.scalar("PriorityClass/chroma-voice", "value", "priority.value")
    for name in [name for name in chart.objects if name.startswith(("Deployment/", "StatefulSet/"))]:
        chart.scalar(name, f"{POD}/priorityClassName", "priority.className")
    namespace = next(name for name in chart.objects if name.startswith("Namespace/"))
    chart.change(namespace, "metadata/name", lambda _: Action(NAMESPACE))
    chart.objects[namespace] = Choice((".Values.namespace.create",), chart.objects[namespace], None)


def _metadata(chart: Chart, name: str) -> None:
    """Labels of the chart, further labels and annotations, and the release's namespace."""
    kind, _, plain_name = name.partition("/")
    labels, annotations = "", ""
    if plain_name in WORKLOADS:
        value = value_name(plain_name)
        match kind:
            case "Deployment" | "StatefulSet":
                labels, annotations = f"{value}.labels", f"{value}.annotations"
            case "Service":
                annotations = f"{value}.service.annotations"
            case "ServiceAccount":
                annotations = f"{value}.serviceAccount.annotations"

    def new(node: Node) -> Node:
        if not isinstance(node, Map):
            raise TypeError(f"{name} has no metadata")
        own = node.entries.pop("labels", Map({}))
        if not isinstance(own, Map):
            raise TypeError(f"the labels of {name} depend on a component")
        own.entries.pop("app.kubernetes.io/part-of", None)
        include = Lines(lambda indent: [f'{" " * indent}{{{{- include "chroma-voice.labels" . | nindent {indent} }}}}'])
        more = {"\0": Lines(lambda indent: given(f".Values.{labels}", indent))} if labels else {}
        if "namespace" in node.entries:
            node.entries["namespace"] = Action(NAMESPACE)
        node.entries["labels"] = Map({"\0labels": include, **own.entries, **more})
        wanted = (
            f"merge (dict) .Values.{annotations} .Values.commonAnnotations"
            if annotations
            else ".Values.commonAnnotations"
        )
        node.entries["annotations"] = Lines(lambda indent: given(wanted, indent, "annotations"))
        return node

    chart.change(name, "metadata", new)


def config_maps_of(node: Node) -> list[str]:
    """The ConfigMaps that the pods of a workload use, in the order of their names."""
    found: set[str] = set()

    def walk(part: Node | None) -> None:
        match part:
            case Map(entries):
                for key, item in entries.items():
                    if key in ("configMapRef", "configMapKeyRef", "configMap") and isinstance(settled(item), Map):
                        name = plain(item).get("name")
                        found.update([name] if name else [])
                    walk(item)
            case Sequence(items):
                for _, item in items:
                    walk(item)
            case Choice(_, then, otherwise):
                walk(then)
                walk(otherwise)

    walk(node)
    return sorted(found)


def rolled_by(chart: Chart) -> list[str]:
    """Give pods an annotation with the hash of their ConfigMaps: pods are replaced when a setting changes.

    The data of these ConfigMaps become named templates. Returns the names of the ConfigMaps.
    """
    used: set[str] = set()
    for workload in WORKLOADS:
        name = f"{'Deployment' if workload in SETTINGS else 'StatefulSet'}/{workload}"
        maps = config_maps_of(chart.objects[name])
        used.update(maps)
        parts = " ".join(f'(include "chroma-voice.data.{config}" .)' for config in maps)
        checksum = Action(f"{{{{ print {parts} | sha256sum }}}}")
        more = Lines(lambda indent, workload=workload: given(f".Values.{value_name(workload)}.podAnnotations", indent))
        added = Map({"checksum/config": checksum, "\0": more})

        def annotate(node: Node, added: Map = added) -> Node:
            if isinstance(node, Map):
                node.entries["annotations"] = added
            return node

        chart.change(name, "spec/template/metadata", annotate)
    return sorted(used)
