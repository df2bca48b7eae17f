"""The gateway process: `python -m gateway`. With CHROMA_GATEWAY_PROCESSES it starts several and watches them."""

from __future__ import annotations

import sys

from gateway.processes.worker import Assignment, Worker
from gateway.settings import GatewaySettings
from services.common.process import run_process


async def serve(settings: GatewaySettings) -> None:
    """Listen, serve until a signal, drain."""
    assignment = Assignment.given(sys.argv[1:])
    if assignment is None and settings.gateway_processes > 1:
        from gateway.processes.serve import serve_processes

        await serve_processes(settings)
        return
    from gateway.server import gateway  # not before: the supervisor needs none of it, which is most of its memory

    if assignment is None:
        async with gateway(settings) as (server, _, _):
            await server.run_until_signal()
        return
    from gateway.processes.serve import settings_of_process

    worker = Worker(assignment)
    async with worker.running(), gateway(settings_of_process(settings, assignment), worker) as (server, _, _):
        worker.on_orphaned(lambda: server.stop_soon(0))
        await server.run_until_signal()


if __name__ == "__main__":
    run_process(GatewaySettings, serve)
