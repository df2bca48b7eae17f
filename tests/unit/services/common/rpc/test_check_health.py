"""The health check that container engines run, against a real server."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from pathlib import Path

import pytest

from services.common.rpc.check_health import KILL_HUNG, is_hung, is_serving, kill_children, main
from services.common.rpc.server import Server
from services.common.settings import ServiceSettings


async def test_it_says_what_the_process_on_the_port_says() -> None:
    server = Server(ServiceSettings())
    settings = ServiceSettings(listen=f"0.0.0.0:{await server.start()}")
    assert not await asyncio.to_thread(is_serving, settings)
    await server.set_serving()
    assert await asyncio.to_thread(is_serving, settings)
    await server.set_stalled(True)
    assert not await asyncio.to_thread(is_serving, settings)
    await server.drain(0)
    assert not await asyncio.to_thread(is_serving, settings)


async def test_it_asks_a_unix_socket_too(tmp_path: Path) -> None:
    settings = ServiceSettings(listen=f"unix:{tmp_path}/s")
    server = Server(settings)
    await server.start()
    await server.set_serving()
    assert await asyncio.to_thread(is_serving, settings)
    await server.drain(0)


async def test_a_server_is_hung_when_it_listens_and_shows_no_life() -> None:
    server = Server(ServiceSettings())
    settings = ServiceSettings(listen=f"0.0.0.0:{await server.start()}")
    assert not await asyncio.to_thread(is_hung, settings), "it starts"
    await server.set_serving()
    assert not await asyncio.to_thread(is_hung, settings), "it serves"
    await server.set_stalled(True)
    assert await asyncio.to_thread(is_hung, settings), "its engine stands still"
    await server.drain(0)
    assert not await asyncio.to_thread(is_hung, settings), "it has ended"


def test_a_process_that_accepts_connections_and_never_answers_is_hung() -> None:
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        settings = ServiceSettings(listen=f"127.0.0.1:{frozen.getsockname()[1]}")
        assert is_hung(settings, timeout_s=0.05)


def test_every_child_of_a_process_is_killed_and_no_other() -> None:
    mine = subprocess.Popen(["sleep", "600"])
    script = "sleep 600 & sleep 600 & echo started; wait; wait"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        kill_children(parent.pid)
        parent.wait(timeout=60)
    assert mine.poll() is None
    mine.kill()
    mine.wait()


def test_only_a_containers_health_check_may_kill(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([KILL_HUNG], ServiceSettings()) == 2
    assert "health check of a container" in capsys.readouterr().err
