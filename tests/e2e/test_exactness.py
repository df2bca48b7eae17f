"""The four processes give the same frames as the engines in one process without any service."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from chroma.v1 import audio_pb2, dialogue_pb2, dialogue_pb2_grpc, generation_pb2
from reference.speech import speak
from reference.thinker import think
from services.common.sampling import SamplingParams
from services.common.wire.audio import tokens_of_mel_frames
from services.reasoner.model.mel import valid_frames
from services.reasoner.model.parts import Piece
from services.reasoner.model.prompt import ChatPrompt, ChatTemplate
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.tokenizer import Tokenizer
from services.speech_gen.messages import SpeechRequest
from services.speech_gen.model.generator import ThoughtInput
from services.speech_gen.model.voice import enroll
from tests.conformance.models import Models
from tests.support.local_stack import QUESTION, SAMPLES, LocalStack, run

VOICE = "exact"
# At the rates that the services take, so that nothing is resampled on the way.
VOICE_24_KHZ = QUESTION
SPOKEN_16_KHZ = [SAMPLES / name for name in ("utterance_librivox_3s.flac", "voice_librivox_5s.flac")]
MAX_FRAMES = 50
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Turn:
    """The result of a turn: the reply's text, and its sound, float32 [S]."""

    text: str
    sound: NDArray[np.float32]


class InProcess:
    """The models of a checkpoint, called directly."""

    def __init__(self, folder: Path) -> None:
        checkpoint = Checkpoint.open(folder)
        self.models = Models.load(folder)
        self.tokenizer = Tokenizer.from_checkpoint(checkpoint)
        tokens = self.models.config.tokens
        self.template = ChatTemplate(self.tokenizer, audio_id=tokens.audio, im_end_id=tokens.im_end)

    def turn(self, spoken: NDArray[np.float32], transcript: str) -> Turn:
        tokens = self.models.config.tokens
        prompt = ChatPrompt(self.template, None, [])
        ids = [
            *flat(prompt.begin_audio()),
            *[tokens.audio] * tokens_of_mel_frames(valid_frames(len(spoken))),
            *flat(prompt.end_audio()),
            *flat(prompt.close()),
        ]
        reply = think(self.models.thinker, ids, [torch.from_numpy(spoken)], max_thoughts=200)
        thoughts = [
            ThoughtInput(token_id, hidden, last=token_id == tokens.im_end)
            for token_id, hidden in zip(reply.token_ids, reply.hidden, strict=True)
        ]
        recording, _ = soundfile.read(VOICE_24_KHZ, dtype="float32")
        codes = self.models.mimi.encode(recording)
        voice = enroll(self.models.generator.backbone, tokens, codes, self.tokenizer.encode(transcript))
        speech = speak(self.models.generator, SpeechRequest(voice, SamplingParams(greedy=True), MAX_FRAMES), thoughts)
        frames = np.array([frame.codes for frame in speech.frames if frame.voiced])
        text_ids = [token_id for token_id in reply.token_ids if token_id != tokens.im_end]
        return Turn(self.tokenizer.decode(text_ids), self.models.mimi.decode(frames))


def flat(pieces: list[Piece]) -> list[int]:
    return [token_id for piece in pieces if isinstance(piece, list) for token_id in piece]


async def through_the_services(gateway: str, spoken: NDArray[np.float32]) -> Turn:
    async def requests() -> AsyncIterator[dialogue_pb2.ConverseRequest]:
        config = dialogue_pb2.SessionConfig(
            voice_id=VOICE, sampling=generation_pb2.Sampling(greedy=True), max_reply_s=MAX_FRAMES * 0.08
        )
        float32 = audio_pb2.AUDIO_ENCODING_PCM_F32LE
        opening = dialogue_pb2.ConverseOpen(
            new_session=config,
            input_format=audio_pb2.AudioFormat(encoding=float32, sample_rate_hz=16_000),
            output_encoding=float32,
            max_lead_s=0.0,
        )
        yield dialogue_pb2.ConverseRequest(open=opening)
        for start in range(0, len(spoken), 1600):
            yield dialogue_pb2.ConverseRequest(audio=spoken[start : start + 1600].tobytes())
        yield dialogue_pb2.ConverseRequest(commit=dialogue_pb2.CommitTurn())

    sound: list[NDArray[np.float32]] = []
    async with grpc.aio.insecure_channel(gateway) as channel:
        async for response in dialogue_pb2_grpc.DialogueServiceStub(channel).Converse(requests()):
            match response.WhichOneof("response"):
                case "audio":
                    sound.append(np.frombuffer(response.audio.pcm.data, dtype="<f4"))
                case "turn_done":
                    assert response.turn_done.outcome == dialogue_pb2.TURN_OUTCOME_COMPLETED, response.turn_done
                    return Turn(response.turn_done.text, np.concatenate(sound))
    pytest.fail("the conversation ended before the turn")


async def test_services_give_the_text_and_every_frame_of_the_engines_in_one_process(stack: LocalStack) -> None:
    torch.set_num_threads(1)
    transcript = json.loads((SAMPLES / "audio.json").read_text())[VOICE_24_KHZ.name]["transcript"]
    options = ("--transcript", transcript, "--consent", "part of the samples", "--replace")
    run("voice", "add", VOICE, VOICE_24_KHZ, *options, "--state", stack.folder.path)
    engines = InProcess(Path(stack.endpoints.model))
    for path in SPOKEN_16_KHZ:
        samples, sample_rate_hz = soundfile.read(path, dtype="float32")
        assert sample_rate_hz == 16_000
        spoken = np.asarray(samples, dtype=np.float32)
        expected = engines.turn(spoken, transcript)
        found = await through_the_services(stack.endpoints.gateway, spoken)
        assert found.text == expected.text
        assert len(found.sound) == len(expected.sound)
        frames = np.abs(found.sound - expected.sound).reshape(-1, 1920).max(axis=1)
        assert frames.max() <= TOLERANCE, f"frames {np.flatnonzero(frames > TOLERANCE)} differ"
