from __future__ import annotations

import os
import subprocess
import wave
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.documented_stack import DocumentedStack
from tests.support.local_stack import QUESTION, VOICE, LocalStack, environment
from tests.support.paths import ROOT
from tests.support.shell import run_shell
from tests.support.snippets import snippet_that_begins

REPLY_S = 1.0

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Installed:
    """The Node example, installed and run by the commands of its README."""

    folder: Path
    reply: Path
    printed: str


@pytest.fixture(scope="module")
def node_client(documented: DocumentedStack) -> Installed:
    quiet = {"npm_config_audit": "false", "npm_config_fund": "false"}
    run_shell(snippet_that_begins("clients/node/README.md", "npm install").code, documented.checkout, quiet)
    printed = documented.run(snippet_that_begins("clients/node/README.md", "node clients/node").code)
    return Installed(documented.checkout / "clients" / "node", documented.checkout / "reply.wav", printed)


def talk(folder: Path, address: str, voice: str, out: Path) -> subprocess.CompletedProcess[str]:
    variables = {**environment(), "CHROMA_PROTOS": str(ROOT / "protos"), "MAX_REPLY_S": str(REPLY_S)}
    command = ["node", "talk.js", address, voice, str(QUESTION), str(out)]
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True, timeout=120
    )


def test_node_program_with_the_protos_alone_asks_and_gets_a_reply(node_client: Installed) -> None:
    with wave.open(str(node_client.reply)) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (24_000, 1, 2)
        assert sound.getnframes() > 0
    assert "reply.wav: " in node_client.printed


def test_node_program_limits_its_reply(nano: LocalStack, node_client: Installed, tmp_path: Path) -> None:
    out = tmp_path / "reply.wav"
    done = talk(node_client.folder, nano.endpoints.gateway, VOICE, out)
    assert done.returncode == 0, done.stdout + done.stderr
    with wave.open(str(out)) as sound:
        assert 0 < sound.getnframes() <= REPLY_S * 24_000


def test_node_program_is_told_why_a_conversation_was_refused(
    nano: LocalStack, node_client: Installed, tmp_path: Path
) -> None:
    done = talk(node_client.folder, nano.endpoints.gateway, "nobody", tmp_path / "reply.wav")
    assert done.returncode == 1
    assert "NOT_FOUND" in done.stderr
    assert "nobody" in done.stderr
