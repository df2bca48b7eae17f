"""The real services, started for a checkpoint and stopped again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from chroma_voice.client import Client
from chroma_voice.local.repository import SampleVoice
from chroma_voice.local.sample_voices import enrol
from chroma_voice.local.state import StateFolder

_CLI = [sys.executable, "-m", "chroma_voice.cli"]


@contextmanager
def running(checkpoint: Path, state: Path) -> Iterator[str]:
    """`chroma-voice up` with a checkpoint; yields the gateway's host:port.

    Raises `CalledProcessError` when it does not start; its logs stay in the folder `state`.
    """
    subprocess.run([*_CLI, "up", "--detach", "--model", str(checkpoint), "--state", str(state)], check=True)
    try:
        yield StateFolder(state).endpoints().gateway
    finally:
        subprocess.run([*_CLI, "down", "--state", str(state)], check=True)


async def enrol_afresh(client: Client, gateway: str, voices: Sequence[SampleVoice]) -> None:
    """Enrol `voices` from their recordings, whatever the gateway had under their ids."""
    known = {voice.voice_id async for voice in client.list_voices()}
    for voice in voices:
        if voice.voice_id in known:
            await client.delete_voice(voice.voice_id)
    await enrol(voices, gateway, only_if_none=False)
