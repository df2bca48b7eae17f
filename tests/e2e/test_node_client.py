from __future__ import annotations

import os
import shutil
import subprocess
import wave
from pathlib import Path

import pytest

from tests.support.local_stack import QUESTION, VOICE, LocalStack, environment
from tests.support.paths import ROOT

REPLY_S = 1.0

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def node_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Node example with its packages, outside the repository."""
    folder = tmp_path_factory.mktemp("node")
    for file in (ROOT / "clients" / "node").iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent"], cwd=folder, check=True, timeout=250)
    return folder


def talk(folder: Path, address: str, voice: str, out: Path) -> subprocess.CompletedProcess[str]:
    variables = {**environment(), "CHROMA_PROTOS": str(ROOT / "protos"), "MAX_REPLY_S": str(REPLY_S)}
    command = ["node", "talk.js", address, voice, str(QUESTION), str(out)]
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True, timeout=120
    )


def test_node_program_with_the_protos_alone_asks_and_gets_a_reply(
    nano: LocalStack, node_client: Path, tmp_path: Path
) -> None:
    out = tmp_path / "reply.wav"
    done = talk(node_client, nano.endpoints.gateway, VOICE, out)
    assert done.returncode == 0, done.stdout + done.stderr
    with wave.open(str(out)) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (24_000, 1, 2)
        assert 0 < sound.getnframes() <= REPLY_S * 24_000
    assert f"{out}: " in done.stdout


def test_node_program_is_told_why_a_conversation_was_refused(
    nano: LocalStack, node_client: Path, tmp_path: Path
) -> None:
    done = talk(node_client, nano.endpoints.gateway, "nobody", tmp_path / "reply.wav")
    assert done.returncode == 1
    assert "NOT_FOUND" in done.stderr
    assert "nobody" in done.stderr
