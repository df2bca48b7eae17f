"""The manifests fit the processes that they start: settings, ports, probes, drain."""

import re
from typing import Any

import pytest
import yaml

from chroma.v1 import codec_pb2, dialogue_pb2, reasoner_pb2, speech_gen_pb2
from gateway.pipeline.resolver import RESOLVE_EVERY_S
from gateway.settings import GatewaySettings
from services.codec.settings import CodecSettings
from services.common.rpc.server import LIVENESS
from services.common.settings import ServiceSettings, split_address
from services.common.variables import PREFIX, given_variable, own_name, shared_name
from services.reasoner.settings import ReasonerSettings
from tests.support.manifests import (
    DEPLOY,
    OVERLAYS,
    SETTINGS,
    Manifest,
    base_with,
    combinations,
    containers,
    environment,
    of_kind,
    overlay,
    pre_stop_s,
    processes,
    telling_combinations,
    workloads,
)

HEALTH_NAMES = {
    "gateway": dialogue_pb2.DESCRIPTOR.services_by_name["DialogueService"].full_name,
    "reasoner": reasoner_pb2.DESCRIPTOR.services_by_name["ReasonerService"].full_name,
    "speech-gen": speech_gen_pb2.DESCRIPTOR.services_by_name["SpeechGenService"].full_name,
    "codec": codec_pb2.DESCRIPTOR.services_by_name["CodecService"].full_name,
}
PORTS = {"grpc": 50051, "metrics": 9090, "http": 8080, "health": 50052}
LISTEN_FIELDS = {"grpc": "listen", "metrics": "metrics_listen", "http": "http_listen", "health": "health_listen"}

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


def assert_settings_are_real(given: dict[str, str], settings_type: type[ServiceSettings]) -> ServiceSettings:
    """The settings that a process reads from these variables. Each `CHROMA_*` name must be shared or the process's own,
    and each value valid.
    """
    ours = {name: value for name, value in given.items() if name.startswith(PREFIX)}
    fields: dict[str, str] = {}
    known: set[str] = set()
    for field in settings_type.model_fields:
        names = {shared_name(field), own_name(settings_type.service, field)} & set(ours)
        if names:
            fields[field] = ours[given_variable(ours, settings_type.service, field)]
        known |= names
    assert set(ours) == known, f"{sorted(set(ours) - known)} of {settings_type.__name__}"
    return settings_type.model_validate(fields)


def test_a_manifest_may_use_the_name_of_one_process_and_of_no_other() -> None:
    given = {"CHROMA_MODEL": "some/folder", "CHROMA_SLOTS": "8", "CHROMA_CODEC_SLOTS": "2"}
    settings = assert_settings_are_real(given, CodecSettings)
    assert isinstance(settings, CodecSettings)
    assert settings.slots == 2
    with pytest.raises(AssertionError, match="CHROMA_CODEC_SLOTS"):
        assert_settings_are_real(given, ReasonerSettings)


@every_build
def test_every_chroma_variable_is_a_setting_of_its_process_and_valid(manifests: Any) -> None:
    built = manifests()
    found = list(processes(built))
    assert len(found) == len(SETTINGS)
    for _, container, settings_type in found:
        assert_settings_are_real(environment(container, built), settings_type)


@every_build
def test_ports_are_where_the_processes_listen(manifests: Any) -> None:
    built = manifests()
    for _, container, settings_type in processes(built):
        settings = assert_settings_are_real(environment(container, built), settings_type)
        declared = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert declared == {name: PORTS[name] for name in declared}
        for name, port in declared.items():
            assert split_address(getattr(settings, LISTEN_FIELDS[name])) == ("0.0.0.0", port)
        listening = {name for name, field in LISTEN_FIELDS.items() if getattr(settings, field, "")}
        assert listening <= set(declared)


@every_build
def test_the_store_listens_on_the_port_of_its_pod(manifests: Any) -> None:
    built = manifests()
    for workload in of_kind(built, "StatefulSet"):
        (container,) = containers(workload)
        volumes = workload["spec"]["template"]["spec"]["volumes"]
        mounted = {volume["configMap"]["name"] for volume in volumes if "configMap" in volume}
        configs = [config for config in of_kind(built, "ConfigMap") if config["metadata"]["name"] in mounted]
        lines = "\n".join(text for config in configs for text in config["data"].values())
        ports = {int(port) for port in re.findall(r"^(?:tls-)?port (\d+)$", lines, re.MULTILINE)} - {0} or {6379}
        assert {port["containerPort"] for port in container["ports"]} == ports


def test_the_gateways_http_port_is_one_it_listens_on() -> None:
    built = base_with(())
    gateway = next(container for _, container, kind in processes(built) if kind is GatewaySettings)
    assert environment(gateway, built)["CHROMA_HTTP_LISTEN"] == "0.0.0.0:8080"


@every_build
def test_the_http_server_answers_for_every_name_that_leads_to_it(manifests: Any) -> None:
    built = manifests()
    gateway = next(container for _, container, kind in processes(built) if kind is GatewaySettings)
    variables = environment(gateway, built)
    served = variables["CHROMA_HTTP_HOSTS"].split(",")
    public = {
        listener["hostname"]
        for manifest in of_kind(built, "Gateway")
        for listener in manifest["spec"]["listeners"]
        if listener["name"] == "http"
    }
    assert {"gateway", *public} <= set(served)
    assert ("CHROMA_HTTP_BEHIND_TLS" in variables) == bool(public)


@every_build
def test_services_lead_to_ports_of_their_pods(manifests: Any) -> None:
    built = manifests()
    for service in of_kind(built, "Service"):
        pods = [
            workload
            for workload in workloads(built)
            if service["spec"]["selector"].items() <= workload["spec"]["template"]["metadata"]["labels"].items()
        ]
        assert len(pods) == 1
        ports = {port["name"]: port["containerPort"] for port in containers(pods[0])[-1]["ports"]}
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]


@every_build
def test_probes_ask_for_the_health_names_that_the_servers_announce(manifests: Any) -> None:
    built = manifests()
    for _, container, settings_type in processes(built):
        settings = assert_settings_are_real(environment(container, built), settings_type)
        _, port = split_address(settings.health_listen or settings.listen)
        ready = {"port": port, "service": HEALTH_NAMES[container["name"]]}
        alive = {"port": port, "service": LIVENESS}
        assert container["readinessProbe"]["grpc"] == ready
        assert container["livenessProbe"]["grpc"] == alive
        assert container["startupProbe"]["grpc"] == (alive if container["name"] == "gateway" else ready)


@every_build
def test_probes_do_not_speak_to_a_port_with_tls(manifests: Any) -> None:
    built = manifests()
    for _, container, settings_type in processes(built):
        settings = assert_settings_are_real(environment(container, built), settings_type)
        if settings.tls_cert is not None:
            probed = {container[probe]["grpc"]["port"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
            assert split_address(settings.listen)[1] not in probed


@every_build
def test_a_pod_has_time_to_finish_the_longest_turn(manifests: Any) -> None:
    built = manifests()
    gateway = next(container for _, container, kind in processes(built) if kind is GatewaySettings)
    turn_limit_s = float(environment(gateway, built)["CHROMA_TURN_LIMIT_S"])
    for pod, container, settings_type in processes(built):
        settings = assert_settings_are_real(environment(container, built), settings_type)
        pause_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert settings.drain_s > turn_limit_s
        assert settings.max_connection_age_grace_s > turn_limit_s
        assert pod["terminationGracePeriodSeconds"] >= pause_s + settings.drain_s + 10


@pytest.mark.parametrize("name", ["reasoner", "speech-gen", "codec"])
def test_a_service_that_leaves_serves_on_until_gateways_with_cached_names_know(name: str) -> None:
    assert pre_stop_s(name) >= 30 + RESOLVE_EVERY_S + 5


@every_build
def test_the_gateway_finds_every_service_at_its_headless_name(manifests: Any) -> None:
    built = manifests()
    services = {service["metadata"]["name"]: service["spec"] for service in of_kind(built, "Service")}
    gateway = next(container for _, container, kind in processes(built) if kind is GatewaySettings)
    variables = environment(gateway, built)
    for variable in ("CHROMA_REASONER", "CHROMA_SPEECH_GEN", "CHROMA_CODEC"):
        match = re.fullmatch(r"dns:///([a-z-]+):(\d+)", variables[variable])
        assert match is not None
        service = services[match[1]]
        assert service["clusterIP"] == "None"
        assert [port["port"] for port in service["ports"]] == [int(match[2])]


@every_build
def test_routes_and_monitors_name_ports_that_exist(manifests: Any) -> None:
    built = manifests()
    ports = {
        service["metadata"]["name"]: {port["port"] for port in service["spec"]["ports"]}
        for service in of_kind(built, "Service")
    }
    for route in of_kind(built, "GRPCRoute", "HTTPRoute"):
        for rule in route["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                assert backend["port"] in ports[backend["name"]]
    for monitor in of_kind(built, "PodMonitor"):
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            for _, container, _ in processes(built):
                assert endpoint["port"] in {port["name"] for port in container["ports"]}


def test_public_routes_name_services_of_the_protos() -> None:
    public = {service.full_name for service in dialogue_pb2.DESCRIPTOR.services_by_name.values()}
    (route,) = of_kind(base_with(("gateway-api",)), "GRPCRoute")
    routed = {match["method"]["service"] for rule in route["spec"]["rules"] for match in rule["matches"]}
    assert routed == public


def test_the_autoscaler_owns_the_replicas_of_what_it_scales() -> None:
    built = base_with(("monitoring", "autoscaling"))
    scaled = {item["spec"]["scaleTargetRef"]["name"] for item in of_kind(built, "ScaledObject")}
    assert scaled == set(SETTINGS)
    assert not [deployment for deployment in of_kind(built, "Deployment") if "replicas" in deployment["spec"]]


def compose(*names: str) -> dict[str, Manifest]:
    merged: dict[str, Manifest] = {}
    for name in names:
        for service, content in yaml.safe_load((DEPLOY / name).read_text())["services"].items():
            known = merged.setdefault(service, {})
            known.update({**content, "environment": {**known.get("environment", {}), **content.get("environment", {})}})
    return merged


@pytest.mark.parametrize("files", [("compose.yaml",), ("compose.yaml", "compose.gpu.yaml")], ids=["cpu", "gpu"])
def test_compose_starts_every_process_with_settings_it_has(files: tuple[str, ...]) -> None:
    services = compose(*files)
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    image_settings = dict(re.findall(r"\b(CHROMA_\w+)=(\S+)", dockerfile))
    turn_limit_s = float(services["gateway"]["environment"]["CHROMA_TURN_LIMIT_S"])
    for name, settings_type in SETTINGS.items():
        settings = assert_settings_are_real({**image_settings, **services[name]["environment"]}, settings_type)
        assert split_address(settings.listen)[1] == PORTS["grpc"]
        assert split_address(settings.metrics_listen)[1] == PORTS["metrics"]
        assert settings.drain_s > turn_limit_s
        assert settings.max_connection_age_grace_s > turn_limit_s
        assert float(services[name]["stop_grace_period"].removesuffix("s")) >= settings.drain_s + 10
        assert services[name]["read_only"]
        assert services[name]["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("files", [("compose.yaml",), ("compose.yaml", "compose.gpu.yaml")], ids=["cpu", "gpu"])
def test_a_server_listens_on_every_port_that_compose_publishes(files: tuple[str, ...]) -> None:
    services = compose(*files)
    image_settings = dict(re.findall(r"\b(CHROMA_\w+)=(\S+)", (DEPLOY / "Dockerfile").read_text()))
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert set(published) == {"gateway"}
    for name, ports in published.items():
        settings = assert_settings_are_real({**image_settings, **services[name]["environment"]}, SETTINGS[name])
        fields = [field for field in LISTEN_FIELDS.values() if getattr(settings, field, "")]
        listening = {split_address(getattr(settings, field)) for field in fields}
        for port in ports:
            assert ("0.0.0.0", int(port.rpartition(":")[2])) in listening, f"{name}: {port}"
            assert port.startswith("127.0.0.1:")
    assert {int(port.rpartition(":")[2]) for port in published["gateway"]} == {PORTS["grpc"], PORTS["http"]}


def test_every_combination_is_tried_somewhere() -> None:
    assert set(telling_combinations()) <= set(combinations())
