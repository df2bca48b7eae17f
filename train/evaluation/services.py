"""The real services with the checkpoint that is evaluated."""

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
from train.evaluation.precisions import Precision

_CLI = [sys.executable, "-m", "chroma_voice.cli"]


@contextmanager
def running(checkpoint: Path, precision: Precision, state: Path) -> Iterator[str]:
    """The services with this checkpoint and precision, started by `chroma-voice up`; yields the gateway's host:port.

    Raises `CalledProcessError` when they do not start; their logs stay in the folder `state`.
    """
    chosen = ("--model", str(checkpoint), *precision.options, "--state", str(state))
    subprocess.run([*_CLI, "up", "--detach", *chosen], check=True)
    try:
        yield StateFolder(state).endpoints().gateway
    finally:
        subprocess.run([*_CLI, "down", "--state", str(state)], check=True)


async def enrol_again(client: Client, gateway: str, voices: Sequence[SampleVoice]) -> None:
    """Enrol `voices` from their recordings; replace voices that the gateway has under the same ids."""
    known = {voice.voice_id async for voice in client.list_voices()}
    for voice in voices:
        if voice.voice_id in known:
            await client.delete_voice(voice.voice_id)
    await enrol(voices, gateway, only_if_none=False)
