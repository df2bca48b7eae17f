"""The gateway process: `python -m gateway`."""

from __future__ import annotations

from gateway.server import gateway
from gateway.settings import GatewaySettings
from services.common.process import run_process


async def serve(settings: GatewaySettings) -> None:
    """Listen, serve until a signal, drain."""
    async with gateway(settings) as (server, _, _):
        await server.run_until_signal()


if __name__ == "__main__":
    run_process(GatewaySettings, serve)
