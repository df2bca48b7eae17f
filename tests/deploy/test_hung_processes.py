"""A hung process is replaced within a minute: on Kubernetes by its probes, under compose by its health check."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from checkpoints.__main__ import main as make_checkpoint
from services.common.rpc.check_health import ATTEMPTS, KILL_HUNG, TIMEOUT_S
from tests.support.manifests import (
    DEPLOY,
    OVERLAYS,
    SETTINGS,
    Manifest,
    base_with,
    containers,
    environment,
    overlay,
    processes,
    telling_combinations,
    workloads,
)
from tests.support.server_process import Replica

REPLACED_WITHIN_S = 60.0
"""The longest time from a hang to the kill."""
GPU_STALL_S = 20.0
"""On a GPU a step takes less than a second."""

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


def seconds(duration: str) -> float:
    """A duration of compose, in seconds."""
    return float(duration.removesuffix("s"))


def killed_after_s(probe: Manifest) -> float:
    """The longest time from a hang to the kill by this probe: the last success was just before the hang."""
    every_s = max(probe["periodSeconds"], probe["timeoutSeconds"])
    return probe["periodSeconds"] + probe["failureThreshold"] * every_s + probe["terminationGracePeriodSeconds"]


@every_build
def test_a_hung_container_is_killed_within_a_minute(manifests: Any) -> None:
    for workload in workloads(manifests()):
        container = containers(workload)[-1]
        assert killed_after_s(container["livenessProbe"]) <= REPLACED_WITHIN_S, container["name"]
        assert container["startupProbe"]["terminationGracePeriodSeconds"] <= 10, container["name"]


@every_build
def test_a_liveness_probe_needs_an_answer_of_the_process(manifests: Any) -> None:
    for workload in workloads(manifests()):
        probe = containers(workload)[-1]["livenessProbe"]
        assert "grpc" in probe or "ping" in probe["exec"]["command"][-1], (
            "the kernel accepts connections for a hung process"
        )


@pytest.mark.parametrize(
    "choice", [choice for choice in telling_combinations() if any("gpu" in name for name in choice)], ids="+".join
)
def test_a_hung_gpu_is_noticed_as_soon(choice: tuple[str, ...]) -> None:
    built = base_with(choice)
    for _, container, _ in processes(built):
        given = environment(container, built)
        if given.get("CHROMA_DEVICE") == "cuda":
            assert float(given["CHROMA_ENGINE_STALL_S"]) <= GPU_STALL_S, container["name"]


def test_compose_kills_what_hangs_and_starts_it_again() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    for name, service in services.items():
        if service["restart"] == "no":
            continue
        check = service["healthcheck"]
        assert service["restart"] == "unless-stopped", name
        assert service["init"] is True, f"{name}: the kernel lets no process kill the first one of its own container"
        assert seconds(check["interval"]) + seconds(check["timeout"]) <= REPLACED_WITHIN_S, name
        if name in SETTINGS:
            assert check["test"][-2:] == ["services.common.rpc.check_health", KILL_HUNG]
            assert seconds(check["timeout"]) > (ATTEMPTS + 1) * TIMEOUT_S


def test_compose_with_a_gpu_notices_a_hung_gpu_as_soon() -> None:
    services = yaml.safe_load((DEPLOY / "compose.gpu.yaml").read_text())["services"]
    on_gpu = [given for given in (service["environment"] for service in services.values()) if "CHROMA_DEVICE" in given]
    assert len(on_gpu) == 3
    assert all(float(given["CHROMA_ENGINE_STALL_S"]) <= GPU_STALL_S for given in on_gpu)


async def probe(address: str, probe: Manifest) -> bool:
    """Ask as the kubelet does."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=probe["grpc"]["service"])
        try:
            answer = await stub.Check(request, timeout=probe["timeoutSeconds"])
        except grpc.aio.AioRpcError:
            return False
    return answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.slow
async def test_a_frozen_process_is_killed_by_its_probe_and_serves_again(tmp_path: Path) -> None:
    make_checkpoint(["new", "tiny", str(tmp_path / "model")])
    (container,) = [container for _, container, _ in processes(base_with(())) if container["name"] == "codec"]
    liveness = container["livenessProbe"]
    settings = {"CHROMA_MODEL": str(tmp_path / "model"), "CHROMA_DRAIN_S": "480"}
    process = Replica("codec", [sys.executable, "-m", "services.codec"], settings, tmp_path / "log")
    try:
        process.start()
        await process.until_serving()
        assert await probe(process.address, liveness)
        process.signal(signal.SIGSTOP)
        frozen_at = time.monotonic()
        for _ in range(liveness["failureThreshold"]):
            assert not await probe(process.address, liveness)
        process.signal(signal.SIGTERM)
        await asyncio.sleep(liveness["terminationGracePeriodSeconds"])
        assert process.runs, "a frozen process does not end by itself: it would wait for the grace of a drain"
        process.kill()
        await process.ended()
        process.start()
        await process.until_serving()
        assert time.monotonic() - frozen_at < 3 * REPLACED_WITHIN_S
        assert await probe(process.address, liveness)
    finally:
        process.close()
