"""SpeechGenService over real gRPC, on the golden checkpoint."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable

import grpc
import numpy as np
import pytest
from grpc import aio

from chroma.v1 import speech_gen_pb2_grpc
from chroma.v1.audio_pb2 import CodeFrames
from chroma.v1.generation_pb2 import END_REASON_EOS, END_REASON_LIMIT, Sampling
from chroma.v1.reasoner_pb2 import Thought, TokenIds
from chroma.v1.speech_gen_pb2 import (
    EnrollVoiceRequest,
    ForgetVoiceRequest,
    SpeakDone,
    SpeakOpen,
    SpeakRequest,
    VoiceEmbedding,
    VoicePrompt,
)
from chroma.v1.tensor_pb2 import Tensor
from services.common.rpc.server import Server
from services.common.sampling import SamplingParams
from services.common.settings import ServiceSettings
from services.common.wire import tensors
from services.common.wire.audio import FRAME_S
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.config import ChromaConfig
from services.speech_gen.model.voice import VoiceCache
from services.speech_gen.model.weights import load_generator
from services.speech_gen.runner import SpeechRunner
from services.speech_gen.servicer import SpeechEngine, SpeechGenServicer
from tests.support.golden_checkpoint import golden_checkpoint
from tests.support.golden_files import load_golden
from tests.support.paths import PUBLIC_GOLDEN

GOLDEN = PUBLIC_GOLDEN
IM_END = 608
LIMIT_FRAMES = 50
CASES = ["basic_audio", "audio_eos_dropped", "audio_eos_partial", "thinker_eos_early", "text_only", "two_audios"]


class Case:
    """A golden case as requests and expected frames [T, 8]."""

    def __init__(self, name: str) -> None:
        golden = {name: tensor.numpy() for name, tensor in load_golden(GOLDEN, name).items()}
        self.max_frames = json.loads((GOLDEN / f"{name}.json").read_text())["max_new_tokens"]
        self.frames = golden["out.frames"][0]
        self.prompt = VoicePrompt(
            frames=CodeFrames(codes=golden["out.prompt_audio_codes"][0].T.reshape(-1).tolist()),
            transcript=TokenIds(ids=golden["in.input_ids"][0].tolist()),
        )
        ids, hidden = golden["out.thinker_token_ids"][0], golden["out.thinker_last_hidden"][0]
        self.thoughts = [
            Thought(index=i, token_id=t, hidden=tensors.to_message(hidden[i]), last=t == IM_END)
            for i, t in enumerate(ids.tolist())
        ]

    def requests(self, **opened: object) -> list[SpeakRequest]:
        """The whole request stream, greedy and unpaced; `opened` changes fields of the opening message."""
        fields = {
            "voice_prompt": self.prompt,
            "sampling": Sampling(greedy=True),
            "max_frames": self.max_frames,
            "max_lead_s": 0.0,
            **opened,
        }
        opening = SpeakOpen(**{name: value for name, value in fields.items() if value is not None})  # pyright: ignore[reportArgumentType]
        return [SpeakRequest(open=opening), *(SpeakRequest(thought=thought) for thought in self.thoughts)]


class Service:
    """A running speech generator: its stub and its model, to look into."""

    def __init__(self, stub: speech_gen_pb2_grpc.SpeechGenServiceAsyncStub, runner: SpeechRunner) -> None:
        self.stub = stub
        self.runner = runner
        self.generator = runner.generator

    async def speak(self, requests: Iterable[SpeakRequest]) -> tuple[np.ndarray, SpeakDone]:
        """All frames [T, 8] and the account."""
        codes: list[int] = []
        done = SpeakDone()
        answered = asyncio.Event()

        async def polite() -> AsyncIterator[SpeakRequest]:
            """Nothing more before the first message was answered: grpc.aio forgets the status of a call that a write
            finds ended (grpc/grpc#36066)."""
            for index, request in enumerate(requests):
                if index == 1:
                    await answered.wait()
                yield request

        try:
            async for response in self.stub.Speak(polite()):
                answered.set()
                if response.WhichOneof("response") == "frames":
                    assert response.frames.first_frame * 8 == len(codes)
                    codes += response.frames.codes
                elif response.WhichOneof("response") == "done":
                    done = response.done
        finally:
            answered.set()
        return np.array(codes, dtype=np.int64).reshape(-1, 8), done


@pytest.fixture
def defaults() -> SamplingParams:
    """The service's sampling of requests that set nothing. A test may parametrize it."""
    return SamplingParams()


@pytest.fixture
async def service(defaults: SamplingParams) -> AsyncIterator[Service]:
    checkpoint = Checkpoint.open(golden_checkpoint())
    generator = load_generator(checkpoint, slots=len(CASES))
    runner = SpeechRunner(generator)
    engine = SpeechEngine("speech-gen", runner)
    servicer = SpeechGenServicer(
        engine,
        runner,
        None,
        token_ids=ChromaConfig.from_dict(checkpoint.config).tokens,
        defaults=defaults,
        checkpoint_fingerprint=checkpoint.fingerprint,
        voices=VoiceCache(4, 10_000_000),
        max_lead_s=2.0,
        max_reply_s=LIMIT_FRAMES * FRAME_S,
    )
    server = Server(ServiceSettings())
    speech_gen_pb2_grpc.add_SpeechGenServiceServicer_to_server(servicer, server.grpc)
    port = await server.start()
    engine.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Service(speech_gen_pb2_grpc.SpeechGenServiceStub(channel), runner)
    await server.grpc.stop(0)
    engine.stop()


def voiced(frames: np.ndarray) -> np.ndarray:
    """Golden frames without a last one that is EOS in codebooks 0 to 6: it is no sound. (docs/model.md, section 4)"""
    return frames[:-1] if len(frames) and (frames[-1, :7] == 0).all() else frames


async def test_all_cases_at_once_give_the_reference_frames(service: Service) -> None:
    cases = [Case(name) for name in CASES]
    results = await asyncio.gather(*(service.speak(case.requests()) for case in cases))
    for case, (frames, done) in zip(cases, results, strict=True):
        assert np.array_equal(frames, voiced(case.frames))
        assert done.frames == len(frames)
    reasons = {name: done.reason for name, (_, done) in zip(CASES, results, strict=True)}
    assert reasons["audio_eos_dropped"] == END_REASON_EOS
    assert reasons["basic_audio"] == END_REASON_LIMIT


@pytest.mark.parametrize("max_frames", [None, LIMIT_FRAMES + 1])
async def test_the_service_limits_the_length_of_a_reply(service: Service, max_frames: int | None) -> None:
    case = Case("basic_audio")
    frames, done = await service.speak(case.requests(max_frames=max_frames))
    assert (len(frames), done.reason, done.restarts) == (LIMIT_FRAMES, END_REASON_LIMIT, 0)


async def test_an_enrolled_voice_is_spoken_by_its_fingerprint_and_prefilled_once(service: Service) -> None:
    case = Case("text_only")
    enrolled = await service.stub.EnrollVoice(
        EnrollVoiceRequest(frames=case.prompt.frames, transcript_ids=case.prompt.transcript)
    )
    assert enrolled.prompt == case.prompt
    by_name = case.requests(voice_prompt=None, voice_fingerprint=enrolled.fingerprint)
    first, first_done = await service.speak(by_name)
    second, second_done = await service.speak(by_name)
    assert np.array_equal(first, voiced(case.frames))
    assert np.array_equal(second, first)
    assert first_done.cached_rows == 0
    assert second_done.cached_rows == second_done.prompt_rows > 0


@pytest.mark.parametrize("defaults", [SamplingParams(greedy=True)])
async def test_a_request_without_sampling_has_the_services_defaults(service: Service) -> None:
    case = Case("basic_audio")
    frames, _ = await service.speak(case.requests(sampling=None))
    assert np.array_equal(frames, voiced(case.frames))
    drawn, _ = await service.speak(case.requests(sampling=Sampling(temperature=1.0)))
    assert not np.array_equal(drawn, frames)


async def test_a_voice_embedding_of_this_checkpoint_gives_the_speech_that_the_codes_give(service: Service) -> None:
    case = Case("basic_audio")
    enrolled = await service.stub.EnrollVoice(
        EnrollVoiceRequest(frames=case.prompt.frames, transcript_ids=case.prompt.transcript)
    )
    given = VoiceEmbedding(rows=enrolled.embeddings, checkpoint_fingerprint=enrolled.checkpoint_fingerprint)
    frames, _ = await service.speak(case.requests(voice_embedding=given))
    assert np.array_equal(frames, voiced(case.frames))


async def test_a_voice_embedding_of_another_checkpoint_is_ignored(service: Service) -> None:
    case = Case("basic_audio")
    noise = tensors.to_message(np.ones((2, 2), dtype=np.float32))
    given = VoiceEmbedding(rows=noise, checkpoint_fingerprint="other")
    frames, _ = await service.speak(case.requests(voice_embedding=given))
    assert np.array_equal(frames, voiced(case.frames))


async def test_a_voice_embedding_of_another_shape_is_refused(service: Service) -> None:
    case = Case("basic_audio")
    enrolled = await service.stub.EnrollVoice(
        EnrollVoiceRequest(frames=case.prompt.frames, transcript_ids=case.prompt.transcript)
    )
    rows = tensors.to_message(np.ones((2, 48), dtype=np.float32))
    given = VoiceEmbedding(rows=rows, checkpoint_fingerprint=enrolled.checkpoint_fingerprint)
    with pytest.raises(aio.AioRpcError, match="voice embedding: expected shape"):
        await service.speak(case.requests(voice_embedding=given))


async def test_the_same_seed_gives_the_same_speech_and_another_seed_another(service: Service) -> None:
    case = Case("basic_audio")
    seeds = (7, 7, 8)
    results = await asyncio.gather(*(service.speak(case.requests(sampling=Sampling(seed=seed))) for seed in seeds))
    first, same, other = (frames for frames, _ in results)
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


async def test_a_caller_that_hangs_up_frees_its_slot(service: Service) -> None:
    case = Case("basic_audio")
    slots = service.generator.kv.free_slots
    call = service.stub.Speak()
    for request in case.requests()[:2]:
        await call.write(request)
    await call.read()
    assert service.generator.kv.free_slots == slots - 1
    call.cancel()
    while service.generator.kv.free_slots < slots:  # noqa: ASYNC110 until the cancellation has travelled
        await asyncio.sleep(0.001)


def _bad_streams() -> dict[str, tuple[list[SpeakRequest], str, str]]:
    case = Case("text_only")
    good = case.requests()
    thought = good[1].thought

    def opened(**fields: object) -> list[SpeakRequest]:
        return case.requests(**fields)

    def with_thought(**fields: object) -> list[SpeakRequest]:
        values = {"index": 0, "token_id": thought.token_id, "hidden": thought.hidden, **fields}
        return [good[0], SpeakRequest(thought=Thought(**values))]  # pyright: ignore[reportArgumentType]

    nan = tensors.to_message(np.full(48, np.nan, dtype=np.float32))
    bad_codes = VoicePrompt(frames=CodeFrames(codes=[2048] * 8), transcript=TokenIds(ids=[1]))
    too_long = VoicePrompt(frames=CodeFrames(codes=[1] * 8 * 2100), transcript=TokenIds(ids=[1]))
    invalid = "INVALID_ARGUMENT"
    return {
        "nothing": ([], invalid, "got the end of the stream"),
        "no open": (good[1:], invalid, "expected `open` as the first message, got `thought`"),
        "open twice": ([good[0], good[0]], invalid, "expected `open` once"),
        "no voice": (opened(voice_prompt=None), invalid, "got neither"),
        "unknown voice": (opened(voice_prompt=None, voice_fingerprint="nobody"), "NOT_FOUND", "nobody"),
        "checkpoint": (opened(checkpoint_fingerprint="other"), "FAILED_PRECONDITION", "expected checkpoint other"),
        "voice codes": (opened(voice_prompt=bad_codes), invalid, "expected codes in 0..2047, got 2048"),
        "voice too long": (opened(voice_prompt=too_long), "OUT_OF_RANGE", "leave no room"),
        "max_frames 0": (opened(max_frames=0), invalid, "max_frames: expected at least 1, got 0"),
        "temperature 0": (opened(sampling=Sampling(temperature=0.0)), invalid, "temperature: expected"),
        "temperature -1": (opened(sampling=Sampling(temperature=-1.0)), invalid, "temperature: expected"),
        "temperature nan": (opened(sampling=Sampling(temperature=float("nan"))), invalid, "temperature: expected"),
        "top_k 0": (opened(sampling=Sampling(top_k=0)), invalid, "top_k: expected at least 1, got 0"),
        "top_p 0": (opened(sampling=Sampling(top_p=0.0)), invalid, "top_p: expected"),
        "lead": (opened(max_lead_s=-1.0), invalid, "max_lead_s: expected at least 0, got -1"),
        "no thoughts": ([good[0]], invalid, "at least one thought"),
        "thought order": (with_thought(index=1), invalid, "expected index 0, got 1"),
        "thought width": (with_thought(hidden=Tensor(dtype=1, shape=[3], data=bytes(12))), invalid, "shape"),  # pyright: ignore[reportArgumentType]
        "thought nan": (with_thought(hidden=nan), invalid, "NaN or infinite"),
        "thought id": (with_thought(token_id=99_999), invalid, "token id"),
    }


@pytest.mark.parametrize("name", _bad_streams())
async def test_a_bad_stream_is_refused_and_the_next_one_served(service: Service, name: str) -> None:
    requests, status, complaint = _bad_streams()[name]
    with pytest.raises(aio.AioRpcError) as caught:
        await service.speak(requests)
    assert (caught.value.code().name, complaint in (caught.value.details() or "")) == (status, True), caught.value
    case = Case("text_only")
    frames, _ = await service.speak(case.requests())
    assert np.array_equal(frames, voiced(case.frames))
    assert service.generator.kv.free_slots == len(CASES)


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        (EnrollVoiceRequest(frames=CodeFrames(codes=[1] * 8)), "got neither"),
        (EnrollVoiceRequest(transcript_ids=TokenIds(ids=[1])), r"voice codes: expected \[T >= 1, 8\]"),
        (EnrollVoiceRequest(frames=CodeFrames(codes=[1] * 8), transcript_ids=TokenIds()), "at least one token"),
        (EnrollVoiceRequest(frames=CodeFrames(codes=[1] * 8), transcript_ids=TokenIds(ids=[99_999])), "token ids 0"),
        (EnrollVoiceRequest(frames=CodeFrames(codes=[1] * 8), transcript="hello"), "no tokenizer"),
    ],
)
async def test_a_bad_voice_is_refused(service: Service, request_: EnrollVoiceRequest, complaint: str) -> None:
    with pytest.raises(aio.AioRpcError, match=complaint) as caught:
        await service.stub.EnrollVoice(request_)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_forgotten_voice_is_gone_from_every_cache_and_is_served_but_not_kept(service: Service) -> None:
    case = Case("basic_audio")
    await service.speak(case.requests())
    enrolled = await service.stub.EnrollVoice(
        EnrollVoiceRequest(frames=case.prompt.frames, transcript_ids=case.prompt.transcript)
    )
    shared = service.runner.shared_prompts
    assert len(shared) == 1
    for _ in range(2):
        await service.stub.ForgetVoice(ForgetVoiceRequest(voice_fingerprint=enrolled.fingerprint))
        assert (len(shared), shared.pages) == (0, 0)
        assert not service.generator.kv.k.any()
        assert not service.generator.kv.v.any()
    by_name = case.requests(voice_prompt=None, voice_fingerprint=enrolled.fingerprint)
    with pytest.raises(aio.AioRpcError) as refused:
        await service.speak(by_name)
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND
    frames, done = await service.speak(case.requests())
    assert np.array_equal(frames, voiced(case.frames))
    assert done.cached_rows == 0
    assert len(shared) == 0
    with pytest.raises(aio.AioRpcError):
        await service.speak(by_name)


async def test_forgetting_needs_a_fingerprint_and_takes_an_unknown_one(service: Service) -> None:
    await service.stub.ForgetVoice(ForgetVoiceRequest(voice_fingerprint="unknown"))
    with pytest.raises(aio.AioRpcError) as refused:
        await service.stub.ForgetVoice(ForgetVoiceRequest())
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
