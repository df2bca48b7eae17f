"""The gateway process: `python -m gateway`. With CHROMA_GATEWAY_PROCESSES it starts several and watches them."""

from __future__ import annotations

import gc
import sys
from functools import partial

from gateway.processes.worker import Assignment, Worker
from gateway.settings import GatewaySettings
from services.common.process import run_process

_OBJECTS_A_WALK = 10_000


async def serve(settings: GatewaySettings, assignment: Assignment | None = None) -> None:
    """Listen, serve until a signal, drain. `assignment`: of one of several processes."""
    if assignment is None and settings.gateway_processes > 1:
        from gateway.processes.serve import serve_processes

        await serve_processes(settings)
        return
    from gateway.server import gateway  # not before: the supervisor needs none of it, which is most of its memory

    if assignment is None:
        async with gateway(settings) as (server, _, _):
            _walk_less()
            await server.run_until_signal()
        return
    from gateway.processes.serve import settings_of_process

    worker = Worker(assignment)
    async with worker.running(), gateway(settings_of_process(settings, assignment), worker) as (server, _, _):
        worker.on_orphaned(lambda: server.stop_soon(0))
        _walk_less()
        await server.run_until_signal()


def _walk_less() -> None:
    """Make the garbage collector's walks fewer and shorter. What a start makes stays until the end: it need not be
    walked again and again. And turns make so many objects that the default would walk for each few of them."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_A_WALK)


if __name__ == "__main__":
    given = Assignment.given(sys.argv[1:])
    run_process(GatewaySettings, partial(serve, assignment=given), number=given.number if given else 0)
