"""The speech generator's servicer over an engine, without a network: what it refuses, and what it says at the start."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from chroma.v1.generation_pb2 import Sampling
from chroma.v1.speech_gen_pb2 import EnrollVoiceRequest, SpeakOpen, SpeakRequest, SpeakResponse
from services.common.errors import InvalidArgument, NotFound
from services.common.sampling import SamplingParams
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.config import ChromaConfig
from services.speech_gen.model.generator import Generator
from services.speech_gen.model.voice import VoiceCache
from services.speech_gen.runner import SpeechRunner
from services.speech_gen.servicer import SpeechEngine, SpeechGenServicer
from tests.support.golden_speech import CHECKPOINT, single_rows


@pytest.fixture
async def servicer(generator: Generator) -> AsyncIterator[SpeechGenServicer]:
    """A servicer whose voice cache has one voice, and whose engine is stopped at the end."""
    runner = SpeechRunner(generator, shared_prompts=0)
    engine = SpeechEngine("speech", runner)
    engine.start()
    voices = VoiceCache(4, 1 << 20)
    voices.put(single_rows()["basic_audio"].request(generator).voice)
    yield SpeechGenServicer(
        engine,
        runner,
        None,
        token_ids=ChromaConfig.from_dict(Checkpoint.open(CHECKPOINT).config).tokens,
        defaults=SamplingParams(),
        checkpoint_fingerprint="golden",
        voices=voices,
        max_lead_s=0.0,
        max_reply_s=1.0,
    )
    await asyncio.to_thread(engine.stop)


async def first_response(servicer: SpeechGenServicer, opened: SpeakOpen) -> SpeakResponse:
    async def requests() -> AsyncIterator[SpeakRequest]:
        yield SpeakRequest(open=opened)
        await asyncio.Event().wait()

    responses = servicer.Speak(requests(), None)
    try:
        return await anext(aiter(responses))
    finally:
        await responses.aclose()  # pyright: ignore[reportAttributeAccessIssue]


def voice_of(generator: Generator) -> str:
    return single_rows()["basic_audio"].request(generator).voice.fingerprint


async def test_the_first_response_names_checkpoint_voice_and_seed(
    servicer: SpeechGenServicer, generator: Generator
) -> None:
    voice = voice_of(generator)
    opened = SpeakOpen(voice_fingerprint=voice, sampling=Sampling(seed=7))
    response = (await first_response(servicer, opened)).opened
    assert (response.checkpoint_fingerprint, response.voice_fingerprint, response.seed) == ("golden", voice, 7)


async def test_a_request_without_a_seed_gets_one_of_its_own(servicer: SpeechGenServicer, generator: Generator) -> None:
    opened = SpeakOpen(voice_fingerprint=voice_of(generator))
    seeds = {(await first_response(servicer, opened)).opened.seed for _ in range(3)}
    assert len(seeds) == 3


@pytest.mark.parametrize(
    ("opened", "error", "message"),
    [
        (SpeakOpen(), InvalidArgument, "`voice_fingerprint` or `voice_prompt`, got neither"),
        (SpeakOpen(voice_fingerprint="unknown"), NotFound, "voice prompt unknown is not cached here"),
        (SpeakOpen(voice_fingerprint="unknown", max_lead_s=-1.0), InvalidArgument, "max_lead_s: expected at least 0"),
    ],
)
async def test_a_bad_opening_is_refused_before_the_admission(
    opened: SpeakOpen, error: type[Exception], message: str, servicer: SpeechGenServicer
) -> None:
    with pytest.raises(error, match=message):
        await first_response(servicer, opened)


async def test_a_transcript_in_words_needs_a_tokenizer(servicer: SpeechGenServicer) -> None:
    with pytest.raises(InvalidArgument, match="has no tokenizer"):
        await servicer.EnrollVoice(EnrollVoiceRequest(transcript="Hello"), None)


async def test_an_enrolment_without_a_transcript_is_refused(servicer: SpeechGenServicer) -> None:
    with pytest.raises(InvalidArgument, match="got neither"):
        await servicer.EnrollVoice(EnrollVoiceRequest(), None)
