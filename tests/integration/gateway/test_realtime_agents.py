"""OpenAI's agents package for JavaScript, against /v1/realtime."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from tests.integration.gateway.test_realtime_openai import recorded
from tests.support.fake_services import REPLY
from tests.support.gateway_client import Client, s16
from tests.support.paths import ROOT

PROGRAM = ROOT / "tests" / "clients_js"


async def _run(*command: str, cwd: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(250):
        out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return out.decode()


@pytest.mark.slow
async def test_an_agent_asks_in_text_and_in_speech_and_gets_both_answers(client: Client, tmp_path: Path) -> None:
    for file in ("package.json", "agents.mjs"):
        shutil.copy(PROGRAM / file, tmp_path)
    await _run("npm", "install", "--no-audit", "--no-fund", "--silent", cwd=tmp_path)
    speech = tmp_path / "speech.pcm"
    speech.write_bytes(s16(recorded("question_make_taco.wav")))
    url = f"ws://{client.http_address}/v1/realtime"
    result = json.loads(await _run("node", "agents.mjs", url, "ada", str(speech), cwd=tmp_path))
    reply_bytes = (2 * len(REPLY) + 2) * 1920 * 2
    assert result["errors"] == []
    assert result["afterText"] == {"turns": 1, "audioBytes": reply_bytes, "status": "completed"}
    assert result["afterSpeech"] == {"turns": 2, "audioBytes": 2 * reply_bytes, "status": "completed"}
    assert [entry["role"] for entry in result["history"]] == ["user", "assistant", "user", "assistant"]
