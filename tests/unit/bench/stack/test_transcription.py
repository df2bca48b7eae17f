"""The benchmark of transcripts asks as a page does, and measures from the end of speech to the first sound."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import websockets

from bench.stack.transcription import PIECE_S, RATE_HZ, SILENCE_S, first_sounds, measure, question_pieces

TRANSCRIBED = "conversation.item.input_audio_transcription.completed"


class Server:
    """Answers each third piece of sound with a turn."""

    def __init__(self) -> None:
        self.settings: list[Any] = []

    async def talk(self, socket: websockets.ServerConnection) -> None:
        """One conversation."""
        settings = json.loads(await socket.recv())["session"]["audio"]["input"]["transcription"]
        self.settings.append(settings)
        pieces = 0
        async for message in socket:
            assert json.loads(message)["type"] == "input_audio_buffer.append"
            pieces += 1
            if pieces % 3 == 0:
                kinds = ["input_audio_buffer.speech_stopped", *2 * ["response.output_audio.delta"], "response.done"]
                for kind in [*kinds, *([TRANSCRIBED] if settings else [])]:
                    await socket.send(json.dumps({"type": kind}))


@pytest.mark.parametrize("transcribe", [True, False])
async def test_each_turn_has_one_first_sound(*, transcribe: bool) -> None:
    server = Server()
    async with websockets.serve(server.talk, "127.0.0.1", 0) as listener:
        url = f"ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        sounds = await first_sounds(url, [b"\0\0"] * 3, turns=2, transcribe=transcribe)
    assert len(sounds) == 2
    assert min(sounds) >= 0
    assert server.settings == [{"model": "chroma"} if transcribe else None]


async def test_conversations_with_and_without_transcripts_take_turns() -> None:
    server = Server()
    async with websockets.serve(server.talk, "127.0.0.1", 0) as listener:
        url = f"ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        found = await measure(url, [b"\0\0"] * 3, 2, rounds=2)
    assert {transcribe: len(sounds) for transcribe, sounds in found.items()} == {False: 12, True: 12}
    assert [bool(it) for it in server.settings] == [True, True, False, False, False, False, True, True]


def test_a_question_ends_with_silence(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(RATE_HZ, 0.5), RATE_HZ, subtype="PCM_16")
    pieces = question_pieces(tmp_path / "a.wav")
    samples = np.frombuffer(b"".join(pieces), dtype=np.int16)
    assert len(samples) == RATE_HZ * (1 + SILENCE_S)
    assert len(pieces[0]) == 2 * RATE_HZ * PIECE_S
    assert samples[:RATE_HZ].min() > 16_000
    assert not samples[RATE_HZ:].any()
