"""The alerts that warn of an end to come, or of what is gone, in a real Prometheus.

They fire while there is time, and stop when the operator has done what their runbook says, without a restart.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

import pytest
import trustme
from grpc import aio

from chroma.v1 import dialogue_pb2 as pb
from chroma_voice.local import store
from chroma_voice.local.ports import LOOPBACK, free_ports
from services.common.errors import ChromaError
from services.common.rpc.server import Server
from tests.support.certificates import write_pair
from tests.support.fake_services import FakeService
from tests.support.gateway_client import Client, new_voice
from tests.support.local_stack import until
from tests.support.prometheus_tools import Prometheus, rule_groups, scraping
from tests.support.server_process import Replica, StoreProcess
from tests.support.small_disks import SmallDisks, refusal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

QUICK = "2s"
"""How long a condition must hold here, in place of the minutes of the rule."""


def rules(*alerts: str) -> list[dict[str, object]]:
    """The group with these alerts alone, which fire soon."""
    found = [rule for group in rule_groups() for rule in group["rules"] if rule.get("alert") in alerts]
    assert len(found) == len(alerts)
    return [{"name": "some", "rules": [{**rule, "for": QUICK} for rule in found]}]


def firing(prometheus: Prometheus) -> list[dict[str, str]]:
    """The labels of what fires."""
    return [one["metric"] for one in prometheus.ask('ALERTS{alertstate="firing"}')]


async def stays_silent(prometheus: Prometheus) -> None:
    """Check over several evaluations that nothing is even pending."""
    await until(lambda: prometheus.up() and set(prometheus.up().values()) == {"up"})
    for _ in range(6):
        await asyncio.sleep(0.5)
        assert prometheus.ask("ALERTS") == []
    assert not prometheus.broken_rules()


@contextmanager
def metrics_page(lines: Callable[[], Iterable[str]]) -> Iterator[str]:
    """A metrics page with these lines, made anew for each reader. Yields its address."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write("".join(f"{line}\n" for line in lines()).encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Write nothing."""

    server = ThreadingHTTPServer((LOOPBACK, 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"{LOOPBACK}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def kubelet(folder: Path) -> AbstractContextManager[str]:
    """A metrics page that tells the size of a volume as the kubelet does: from the file system."""
    labels = 'namespace="chroma-voice",persistentvolumeclaim="data-valkey-0"'

    def lines() -> Iterable[str]:
        disk = os.statvfs(folder)
        yield f"kubelet_volume_stats_available_bytes{{{labels}}} {disk.f_bavail * disk.f_frsize}"
        yield f"kubelet_volume_stats_capacity_bytes{{{labels}}} {disk.f_blocks * disk.f_frsize}"

    return metrics_page(lines)


@pytest.mark.skipif(bool(why := refusal()), reason=f"no small disks: {why}")
async def test_a_disk_of_the_store_that_fills_is_told_and_no_longer_once_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disks = SmallDisks([disk])
    (port,) = free_ports(1)
    config, password = store.write_config(tmp_path / "valkey", port)
    config.write_text(config.read_text().replace(f'dir "{config.parent}"', f'dir "{disk}"'))
    valkey = StoreProcess(config, password, port, tmp_path / "valkey.log", disks.launcher)
    valkey.start()
    try:
        await valkey.until_serving()
        with (
            kubelet(disks.inside(disk)) as page,
            scraping({"kubelet": page}, tmp_path, rules("ChromaVoiceStoreDiskFull")) as prometheus,
        ):
            for number in range(10):
                await valkey.command("SET", f"chroma:session:{number}", "x" * 100_000)
            await stays_silent(prometheus)
            for number in range(60):
                await valkey.command("SET", f"chroma:session:{number % 10}", "x" * 100_000)
            await until(lambda: firing(prometheus))
            (told,) = firing(prometheus)
            assert (told["alertname"], told["persistentvolumeclaim"]) == ("ChromaVoiceStoreDiskFull", "data-valkey-0")
            await valkey.command("BGREWRITEAOF")
            await until(lambda: prometheus.ask("ALERTS") == [])
            assert valkey.runs
    finally:
        valkey.close()
        disks.close()


async def test_a_store_that_fills_or_goes_and_a_gateway_that_goes_are_told_without_any_traffic(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    config, password = store.write_config(tmp_path / "valkey", port)
    valkey = StoreProcess(config, password, port, tmp_path / "valkey.log")
    fakes = [FakeService(name) for name in ("reasoner", "speech_gen", "codec")]
    for fake in fakes:
        await fake.start()
    settings = {
        **{f"CHROMA_{fake.name.upper()}": fake.address for fake in fakes},
        "CHROMA_REDIS_URL": f"redis://:{password}@{LOOPBACK}:{port}/0",
    }
    gateway = Replica("gateway", [sys.executable, "-m", "gateway"], settings, tmp_path / "gateway.log")
    valkey.start()
    gateway.start()
    groups = rules("ChromaVoiceStoreMemoryFull", "ChromaVoiceStoreFailing", "ChromaVoiceGatewayGone")

    def names(prometheus: Prometheus) -> set[str]:
        return {one["alertname"] for one in firing(prometheus)}

    try:
        await valkey.until_serving()
        await gateway.until_serving()
        with scraping({"gateway": gateway.metrics_address}, tmp_path, groups) as prometheus:
            await until(lambda: prometheus.up() and prometheus.ask("ALERTS") == [])  # until then it has scraped nothing
            await stays_silent(prometheus)
            await valkey.command(
                "CONFIG", "SET", "maxmemory", int(gateway.metric("chroma_voice_store_memory_used_bytes"))
            )
            await until(lambda: names(prometheus) == {"ChromaVoiceStoreMemoryFull"})
            await valkey.command("CONFIG", "SET", "maxmemory", 0)
            await until(lambda: names(prometheus) == set())
            valkey.kill()
            await until(lambda: "ChromaVoiceStoreFailing" in names(prometheus))
            gateway.kill()
            await until(lambda: "ChromaVoiceGatewayGone" in names(prometheus))
    finally:
        gateway.close()
        valkey.close()
        for fake in fakes:
            await fake.kill()


async def test_the_first_failures_after_a_start_are_told(tmp_path: Path, redis_url: str) -> None:
    fakes = [FakeService(name) for name in ("reasoner", "speech_gen", "codec")]
    for fake in fakes:
        await fake.start()
    addresses = {f"CHROMA_{fake.name.upper()}": fake.address for fake in fakes}
    settings = {**addresses, "CHROMA_REDIS_URL": redis_url}
    gateway = Replica("gateway", [sys.executable, "-m", "gateway"], settings, tmp_path / "gateway.log")
    gateway.start()
    recorded = [rule for group in rule_groups() for rule in group["rules"] if "record" in rule]
    groups = [{"name": "recorded", "rules": recorded}, *rules("ChromaVoiceTurnsFailing")]
    try:
        await gateway.until_serving()
        async with aio.insecure_channel(gateway.address) as channel:
            client = Client(channel, cast(Server, None), gateway.address)
            await client.voices.CreateVoice(new_voice("ada"))
            with scraping({"gateway": gateway.metrics_address}, tmp_path, groups) as prometheus:
                await stays_silent(prometheus)
                fakes[0].script.refusal = ChromaError("the first step of a new image fails")
                async with client.converse() as talk:
                    for _ in range(40):
                        assert (await talk.ask("question")).outcome == pb.TURN_OUTCOME_FAILED
                await until(lambda: firing(prometheus))
                assert {one["alertname"] for one in firing(prometheus)} == {"ChromaVoiceTurnsFailing"}
    finally:
        gateway.close()
        for fake in fakes:
            await fake.kill()


async def test_a_gpu_that_fails_fills_or_is_hot_is_told(tmp_path: Path) -> None:
    # No GPU here: the page has the names and labels of NVIDIA's DCGM exporter.
    labels = 'gpu="0",exported_namespace="chroma-voice",exported_pod="reasoner-1",exported_container="reasoner"'
    healthy = {
        "DCGM_FI_DEV_XID_ERRORS": 0,
        "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": 0,
        "DCGM_FI_DEV_FB_FREE": 20_000,
        "DCGM_FI_DEV_FB_USED": 60_000,
        "DCGM_FI_DEV_GPU_TEMP": 60,
    }
    values = dict(healthy)
    groups = rules("ChromaVoiceGpuFaults", "ChromaVoiceGpuMemoryFull", "ChromaVoiceGpuHot")

    def names() -> set[str]:
        return {one["alertname"] for one in firing(prometheus)}

    with (
        metrics_page(lambda: [f"{name}{{{labels}}} {value}" for name, value in values.items()]) as page,
        scraping({"dcgm": page}, tmp_path, groups) as prometheus,
    ):
        await until(lambda: prometheus.up() and set(prometheus.up().values()) == {"up"})
        await stays_silent(prometheus)
        values |= {"DCGM_FI_DEV_FB_FREE": 1_000, "DCGM_FI_DEV_FB_USED": 79_000}
        await until(lambda: names() == {"ChromaVoiceGpuMemoryFull"})
        values |= {**healthy, "DCGM_FI_DEV_GPU_TEMP": 91}
        await until(lambda: names() == {"ChromaVoiceGpuHot"})
        values |= healthy
        await until(lambda: names() == set())
        values |= {"DCGM_FI_DEV_XID_ERRORS": 79}
        await until(lambda: names() == {"ChromaVoiceGpuFaults"})
        assert all(one["exported_pod"] == "reasoner-1" for one in firing(prometheus))


async def test_a_certificate_that_ends_is_told_until_it_is_renewed(tmp_path: Path) -> None:
    authority = trustme.CA()

    def renew(days: int) -> None:
        write_pair(tmp_path, authority, LOOPBACK, not_after=datetime.now(UTC) + timedelta(days=days))

    renew(90)
    nowhere = dict.fromkeys(("CHROMA_REASONER", "CHROMA_SPEECH_GEN", "CHROMA_CODEC"), f"{LOOPBACK}:1")
    settings = {
        **nowhere,
        "CHROMA_REDIS_URL": f"redis://{LOOPBACK}:1/0",
        "CHROMA_TLS_CERT": str(tmp_path / "tls.crt"),
        "CHROMA_TLS_KEY": str(tmp_path / "tls.key"),
    }
    gateway = Replica("gateway", [sys.executable, "-m", "gateway"], settings, tmp_path / "gateway.log")
    gateway.start()
    try:
        await until(gateway.metrics)
        groups = rules("ChromaVoiceCertificateEnds")
        with scraping({"gateway": gateway.metrics_address}, tmp_path, groups) as prometheus:
            await stays_silent(prometheus)
            renew(10)
            await until(lambda: firing(prometheus))
            (told,) = firing(prometheus)
            assert (told["service"], told["file"]) == ("gateway", "tls_cert")
            renew(90)
            await until(lambda: prometheus.ask("ALERTS") == [])
            assert gateway.runs
    finally:
        gateway.close()
