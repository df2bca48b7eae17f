from __future__ import annotations

import os
import socket
import subprocess
import wave
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.debian_packages import as_installed, unpacked
from tests.support.documented_stack import DocumentedStack
from tests.support.local_stack import QUESTION, VOICE, LocalStack, environment
from tests.support.snippets import snippet_that_begins

REPLY_S = 1.0
TLS_HANDSHAKE = 22
"""The first byte of a TLS connection."""

PACKAGES = (
    "golang-1.19-go",
    "golang-1.19-src",
    "golang-google-grpc-dev",
    "golang-google-protobuf-dev",
    "golang-google-genproto-dev",
    "golang-github-golang-protobuf-1-5-dev",
    "golang-golang-x-net-dev",
    "golang-golang-x-sys-dev",
    "golang-golang-x-text-dev",
    "libprotobuf32",
    "libprotobuf-dev",
    "libprotoc32",
    "protobuf-compiler",
    "protoc-gen-go",
    "protoc-gen-go-grpc",
)

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Built:
    """The program of the Go example, built and run by the commands of its README."""

    program: Path
    reply: Path
    printed: str


@pytest.fixture(scope="module")
def go_client(documented: DocumentedStack) -> Built:
    """The commands of the README, with Debian's toolchain."""
    root, folder = unpacked("go", *PACKAGES), documented.checkout / "clients" / "go"
    variables = {
        "GOCACHE": str(documented.checkout / "cache"),
        "GOFLAGS": "-buildvcs=false",
        "PATH": f"/usr/lib/go-1.19/bin:{documented.path}",
    }
    commands = snippet_that_begins("clients/go/README.md", "cd clients/go").code
    printed = documented.run(commands, variables=variables, before=as_installed(root))
    return Built(folder / "talk", folder / "reply.wav", printed)


def talk(program: Path, address: str, voice: str, out: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [program, address, voice, QUESTION, out]
    env = {**os.environ, **environment(), "MAX_REPLY_S": str(REPLY_S), **variables}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)


def test_go_program_from_the_protos_alone_asks_and_gets_a_reply(go_client: Built) -> None:
    with wave.open(str(go_client.reply)) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (24_000, 1, 2)
        assert sound.getnframes() > 0
    assert "reply.wav: " in go_client.printed


def test_go_program_limits_its_reply(nano: LocalStack, go_client: Built, tmp_path: Path) -> None:
    out = tmp_path / "reply.wav"
    done = talk(go_client.program, nano.endpoints.gateway, VOICE, out)
    assert done.returncode == 0, done.stdout + done.stderr
    with wave.open(str(out)) as sound:
        assert 0 < sound.getnframes() <= REPLY_S * 24_000


def test_go_program_is_told_why_a_conversation_was_refused(nano: LocalStack, go_client: Built, tmp_path: Path) -> None:
    done = talk(go_client.program, nano.endpoints.gateway, "nobody", tmp_path / "reply.wav")
    assert done.returncode == 1
    assert "NotFound" in done.stderr
    assert "nobody" in done.stderr


def test_go_program_sends_nothing_in_plain_text_to_another_machine(go_client: Built, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        # Linux connects 0.0.0.0 to this machine, but the program cannot know that.
        address = f"0.0.0.0:{server.getsockname()[1]}"
        command = [go_client.program, address, VOICE, QUESTION, tmp_path / "reply.wav"]
        with subprocess.Popen(command, env={**os.environ, "CHROMA_API_KEY": "sk-test"}) as program:
            try:
                connection, _ = server.accept()
                with connection:
                    first = connection.recv(4096)
            finally:
                program.kill()
    assert first[0] == TLS_HANDSHAKE
    assert b"sk-test" not in first
