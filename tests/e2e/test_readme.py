"""The snippets of README.md and of the client's README run as they stand, in their order.

Only the ports are others, because those of the text may be taken on the machine of the test.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chroma_voice.local.ports import free_ports
from tests.support.local_stack import LocalStack, environment
from tests.support.paths import ROOT
from tests.support.shell import commands
from tests.support.snippets import snippets_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_readme_works_from_top_to_bottom(tmp_path: Path) -> None:
    for name in (".venv", "samples"):
        (tmp_path / name).symlink_to(ROOT / name)
    grpc, http = map(str, free_ports(2))
    command_folder = tmp_path / "bin"
    variables = {**environment(), "PATH": commands(command_folder)}
    printed = []
    try:
        for snippet in snippets_of("README.md"):
            if snippet.language not in ("sh", "python"):
                continue
            own = snippet.code.replace("50051", grpc).replace("8443", http)
            own = own.replace("source .venv/bin/activate", f"source .venv/bin/activate; PATH={command_folder}:$PATH")
            runner = [sys.executable, "-c"] if snippet.language == "python" else ["bash", "-eu", "-c"]
            done = subprocess.run(
                [*runner, own], cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=300
            )
            assert done.returncode == 0, f"{snippet.code}\n{done.stdout}{done.stderr}"
            printed.append(done.stdout)
    finally:
        subprocess.run([command_folder / "chroma-voice", "down"], cwd=tmp_path, env=variables, timeout=200)
    assert "warm a tortilla" in printed[0]
    assert (tmp_path / "reply.wav").stat().st_size > 10_000
    assert (tmp_path / "reply-2.mp3").stat().st_size > 3_000
    assert "enrolled voice ann" in printed[1]
    assert "warm a tortilla" in printed[2]
    assert "amber" in printed[3]


def test_the_programs_of_the_clients_readme_run(nano: LocalStack, tmp_path: Path) -> None:
    address = nano.endpoints.gateway
    programs = [it.code for it in snippets_of("clients/python/README.md") if it.language == "python"]
    for code in programs:
        own = code.replace("127.0.0.1:50051", address)
        if "asyncio.run" not in own:  # a function that is to be called
            own += f"""
async def call():
    async with Client({address!r}) as client:
        print(await ask(client))

import asyncio
asyncio.run(call())
"""
        done = subprocess.run(
            [sys.executable, "-c", own], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"
        assert done.stdout.strip(), code
    assert len(programs) == 2
