"""A gateway of several processes, from its settings: what the processes share, and what each has of its own."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from prometheus_client import CollectorRegistry

from gateway.processes.addresses import ReservedAddress
from gateway.processes.supervisor import Supervisor
from gateway.processes.worker import Assignment
from gateway.settings import GatewaySettings
from services.common.errors import FailedPrecondition
from services.common.telemetry.merged_metrics import MergedMetrics
from services.common.telemetry.metrics import serve_metrics

_SHARED = ("listen", "http_listen", "health_listen")


async def serve_processes(settings: GatewaySettings) -> None:
    """Run the processes until a signal, and show their metrics. Raises domain errors when they cannot serve."""
    async with AsyncExitStack() as at_end:
        given = {name: getattr(settings, name) for name in _SHARED if getattr(settings, name)}
        addresses = {name: at_end.enter_context(ReservedAddress(address)).address for name, address in given.items()}
        supervisor = Supervisor(_command, settings.gateway_processes, addresses)
        if settings.metrics_listen:
            registry = CollectorRegistry()
            registry.register(MergedMetrics(supervisor.read_metrics))
            try:
                at_end.push_async_callback(asyncio.to_thread, serve_metrics(settings.metrics_listen, registry))
            except OSError as error:
                raise FailedPrecondition(f"cannot listen on {settings.metrics_listen}: {error.strerror}") from None
        await supervisor.run()


def _command(assignment: Assignment) -> list[str]:
    return [sys.executable, "-m", "gateway", *assignment.arguments()]


def settings_of_process(settings: GatewaySettings, assignment: Assignment) -> GatewaySettings:
    """The settings of one of the processes. It shows no metrics, since the supervisor shows those of all.

    Limits of connections that each process counts for itself are divided. The audit log is a file of its own: each line
    of it continues the one before.
    """
    audit_file = settings.audit_file
    return settings.model_copy(
        update={
            **assignment.addresses,
            "metrics_listen": "",
            "grpc_connections": _share(settings.grpc_connections, assignment),
            "http_peer_connections": _share(settings.http_peer_connections, assignment),
            "audit_file": audit_file and audit_file_of(audit_file, assignment.number),
        }
    )


def audit_file_of(file: Path, number: int) -> Path:
    """The audit log of one process: `audit-2.jsonl` of the second one for `audit.jsonl`."""
    return file.with_stem(f"{file.stem}-{number}")


def _share(limit: int, assignment: Assignment) -> int:
    """An equal part of a limit, rounded up."""
    return -(-limit // assignment.processes)
