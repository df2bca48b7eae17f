"""The gateway as a server: when it serves, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio

import httpx

from gateway.server import gateway
from gateway.settings import GatewaySettings


async def test_a_gateway_without_upstreams_answers_but_does_not_serve_and_leaves_no_task(redis_url: str) -> None:
    away = "127.0.0.1:1"
    settings = GatewaySettings(
        reasoner=away, speech_gen=away, codec=away, redis_url=redis_url, http_listen="127.0.0.1:0", listen="127.0.0.1:0"
    )
    before = asyncio.all_tasks()
    async with gateway(settings) as (server, port, http_port), httpx.AsyncClient(timeout=60) as http:
        assert port
        response = await http.get(f"http://127.0.0.1:{http_port}/healthz")
        assert (response.status_code, response.json()["status"]) == (503, "starting")
        await server.drain(0)
    assert {task for task in asyncio.all_tasks() - before if "gateway" in str(task.get_coro())} == set()
