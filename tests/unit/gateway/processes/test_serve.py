"""A gateway of several processes, from its settings."""

from __future__ import annotations

import asyncio
import socket
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from gateway.processes import serve as module
from gateway.processes.serve import serve_processes, settings_of_process
from gateway.processes.worker import Assignment
from gateway.settings import GatewaySettings
from services.common.errors import FailedPrecondition
from services.common.telemetry.merged_metrics import Families


def settings(**changes: Any) -> GatewaySettings:
    away = "127.0.0.1:1"
    fields: dict[str, Any] = {"reasoner": away, "speech_gen": away, "codec": away, "redis_url": "redis://127.0.0.1:1"}
    return GatewaySettings(**{**fields, "gateway_processes": 3, **changes})


class FakeSupervisor:
    """It runs until it is told that it has seen enough."""

    started: list[FakeSupervisor]

    def __init__(self, command: Any, processes: int, addresses: dict[str, str]) -> None:
        self.command, self.processes, self.addresses = command, processes, addresses
        self.enough = asyncio.Event()
        self.started.append(self)

    def read_metrics(self) -> list[Families]:
        samples = [["turns_total", {}, 2, None]]
        family = {"name": "turns", "meaning": "Turns.", "kind": "counter", "merge": "sum", "samples": samples}
        return [[family], [family]]

    async def run(self) -> None:
        await self.enough.wait()


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> list[FakeSupervisor]:
    monkeypatch.setattr(FakeSupervisor, "started", [], raising=False)
    monkeypatch.setattr(module, "Supervisor", FakeSupervisor)
    return FakeSupervisor.started


def assignment(number: int = 2) -> Assignment:
    return Assignment(number, 3, 7, 8, {"listen": "127.0.0.1:5"}, replaces=False)


def test_each_process_has_the_shared_addresses_and_a_share_of_what_it_counts_itself(tmp_path: Path) -> None:
    of_all = settings(
        metrics_listen="127.0.0.1:9", grpc_connections=10, http_peer_connections=3, audit_file=tmp_path / "audit.jsonl"
    )
    mine = settings_of_process(of_all, assignment())
    assert (mine.listen, mine.metrics_listen) == ("127.0.0.1:5", "")
    assert (mine.grpc_connections, mine.http_peer_connections) == (4, 1)
    assert mine.max_conversations == of_all.max_conversations
    assert mine.audit_file == tmp_path / "audit-2.jsonl"
    assert settings_of_process(settings(), assignment()).audit_file is None


async def test_one_page_shows_the_metrics_of_all(started: list[FakeSupervisor]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serving = asyncio.create_task(
        serve_processes(settings(metrics_listen=f"127.0.0.1:{port}", http_listen="127.0.0.1:0"))
    )
    while not started:  # noqa: ASYNC110  # the fake is made within the next turns of the loop
        await asyncio.sleep(0)
    page = await asyncio.to_thread(_read, f"http://127.0.0.1:{port}/metrics")
    (supervisor,) = started
    supervisor.enough.set()
    await serving
    assert "turns_total 4.0" in page
    assert supervisor.processes == 3
    assert set(supervisor.addresses) == {"listen", "http_listen"}
    assert not any(address.endswith(":0") for address in supervisor.addresses.values())
    assert supervisor.command(assignment())[1:3] == ["-m", "gateway"]


async def test_a_taken_address_of_the_metrics_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(FailedPrecondition, match=f"cannot listen on {address}"):
            await serve_processes(settings(metrics_listen=address))


def _read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read().decode()
