"""The three services under messages of any order and value: a clear status, never INTERNAL, and no slot is left."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from grpc import aio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chroma.v1 import codec_pb2, codec_pb2_grpc, reasoner_pb2, speech_gen_pb2, speech_gen_pb2_grpc
from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_F32LE, AUDIO_ENCODING_PCM_S16LE, AudioFormat, CodeFrames, Pcm
from chroma.v1.codec_pb2 import DecodeOpen, EncodeOpen
from chroma.v1.generation_pb2 import Sampling
from chroma.v1.reasoner_pb2 import Commit, ThinkOpen, Thought, TokenIds, UserAudio
from chroma.v1.speech_gen_pb2 import SpeakOpen, VoicePrompt
from chroma.v1.tensor_pb2 import DATA_TYPE_FLOAT32, Tensor
from chroma_voice.errors import FirstStatus
from services.codec.model.mimi import Mimi
from services.codec.runner import CodecRunner
from services.codec.servicer import CodecEngine, CodecServicer
from services.common.rpc.server import Server
from services.common.sampling import SamplingParams
from services.common.settings import ServiceSettings
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.checkpoint.config import ChromaConfig
from services.speech_gen.model.voice import VoiceCache
from services.speech_gen.model.weights import load_generator
from services.speech_gen.runner import SpeechRunner
from services.speech_gen.servicer import SpeechEngine, SpeechGenServicer
from tests.support.golden_checkpoint import golden_checkpoint
from tests.support.random_messages import messages_of
from tests.support.think_service import golden_with_tokenizer, serving

# Hypothesis prints what it sent when a test fails, however long it is; that warning would hide the failure.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

GOLDEN = golden_checkpoint()
CONFIG = ChromaConfig.from_dict(Checkpoint.open(GOLDEN).config)
WIDTH = CONFIG.backbone.width
SLOTS = 2
FUZZ = settings(
    max_examples=250,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
EXPECTED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


@dataclass(frozen=True)
class Target:
    """A running service: calls by the name of the RPC, and what it has free."""

    calls: dict[str, Any]
    free: Callable[[], Sequence[int]]
    all_free: Sequence[int]


@asynccontextmanager
async def codec() -> AsyncIterator[Target]:
    runner = CodecRunner(Mimi.load(Checkpoint.open(GOLDEN)), decode_slots=SLOTS, encode_slots=SLOTS)
    engine = CodecEngine("codec", runner)
    servicer = CodecServicer(engine, max_encode_s=1, checkpoint_fingerprint="golden")
    server = Server(ServiceSettings())
    codec_pb2_grpc.add_CodecServiceServicer_to_server(servicer, server.grpc)
    async with connected(server, engine) as channel:
        stub = codec_pb2_grpc.CodecServiceStub(channel)
        calls = {"Encode": stub.Encode, "Decode": stub.Decode}
        yield Target(calls, lambda: (runner.free_decode_slots, runner.free_encode_slots), (SLOTS, SLOTS))


@asynccontextmanager
async def speech_gen() -> AsyncIterator[Target]:
    checkpoint = Checkpoint.open(GOLDEN)
    generator = load_generator(checkpoint, slots=SLOTS)
    runner = SpeechRunner(generator, shared_prompts=0)
    engine = SpeechEngine("speech-gen", runner)
    servicer = SpeechGenServicer(
        engine,
        runner,
        None,
        token_ids=CONFIG.tokens,
        defaults=SamplingParams(),
        checkpoint_fingerprint="golden",
        voices=VoiceCache(4, 10_000_000),
        max_lead_s=0.0,
        max_reply_s=0.4,
    )
    server = Server(ServiceSettings())
    speech_gen_pb2_grpc.add_SpeechGenServiceServicer_to_server(servicer, server.grpc)
    kv = generator.kv
    async with connected(server, engine) as channel:
        stub = speech_gen_pb2_grpc.SpeechGenServiceStub(channel)
        calls = {"Speak": stub.Speak, "EnrollVoice": stub.EnrollVoice, "ForgetVoice": stub.ForgetVoice}
        yield Target(calls, lambda: (kv.free_slots, kv.free_pages), (kv.slots, kv.pages))


@asynccontextmanager
async def reasoner(model: Path) -> AsyncIterator[Target]:
    async with serving(model, slots=SLOTS, max_thoughts=6) as service:
        kv = service.runner.kv
        calls = {"Think": service.stub.Think, "Forget": service.stub.Forget}
        yield Target(
            calls, lambda: (kv.free_slots, kv.free_pages + service.runner.prefixes.pages), (kv.slots, kv.pages)
        )


@asynccontextmanager
async def connected(server: Server, engine: Any) -> AsyncIterator[aio.Channel]:
    port = await server.start()
    engine.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.grpc.stop(0)
    await asyncio.to_thread(engine.stop)


class Running:
    """A target on an event loop of its own, which tests that are no coroutines use."""

    def __init__(self, context: AbstractAsyncContextManager[Target]) -> None:
        self._loop = asyncio.Runner()
        self._context = context
        self._target = self._loop.run(self._enter())

    async def _enter(self) -> Target:
        return await self._context.__aenter__()

    def close(self) -> None:
        async def leave() -> None:
            await self._context.__aexit__(None, None, None)

        self._loop.run(leave())
        self._loop.close()

    def check(self, method: str, sent: Sequence[Message], *, hang_up_after: int | None = None) -> grpc.StatusCode:
        """Send messages, and read the answers to the end or up to a number. All slots are free afterwards."""
        return self._loop.run(asyncio.wait_for(self._check(method, sent, hang_up_after), 30))

    async def _check(self, method: str, sent: Sequence[Message], hang_up_after: int | None) -> grpc.StatusCode:
        call = self._target.calls[method]
        code, details = grpc.StatusCode.OK, ""
        try:
            await (self._stream(call, sent, hang_up_after) if self._streams(method) else call(sent[0]))
        except aio.AioRpcError as error:
            code, details = error.code(), error.details() or ""
        assert code in EXPECTED, (code, details)
        assert len(details) < 2_000
        assert "Traceback" not in details
        while tuple(self._target.free()) != tuple(self._target.all_free):  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        return code

    @staticmethod
    def _streams(method: str) -> bool:
        return method in ("Encode", "Decode", "Speak", "Think")

    @staticmethod
    async def _stream(call: Any, sent: Sequence[Message], hang_up_after: int | None) -> None:
        async def messages() -> AsyncIterator[Message]:
            for message in sent:
                yield message

        answers = call(messages())
        first_status = FirstStatus(answers)
        count = 0
        try:
            async for _ in answers:
                count += 1
                if count == hang_up_after:
                    answers.cancel()
                    return
        except aio.AioRpcError as error:
            if (own := first_status.error(error)) is not None:
                raise own from None


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Running]]:
    model = golden_with_tokenizer(tmp_path_factory.mktemp("golden"))
    running = {"codec": Running(codec()), "speech_gen": Running(speech_gen()), "reasoner": Running(reasoner(model))}
    yield running
    for service in running.values():
        service.close()


FRAMES = st.integers(0, 5).map(lambda count: CodeFrames(codes=[7] * (8 * count)))
HIDDEN = st.sampled_from([0.0, 1.0, 3e38]).map(
    lambda value: Tensor(dtype=DATA_TYPE_FLOAT32, shape=[WIDTH], data=struct.pack("<f", value) * WIDTH)
)
GIVEN = {
    "chroma.v1.VoicePrompt.frames": FRAMES,
    "chroma.v1.EnrollVoiceRequest.frames": FRAMES,
    "chroma.v1.Thought.hidden": HIDDEN,
    "chroma.v1.SpeakOpen.checkpoint_fingerprint": st.just("golden"),
    "chroma.v1.DecodeOpen.checkpoint_fingerprint": st.just("golden"),
    "chroma.v1.SpeakOpen.max_lead_s": st.just(0.0),
}


def requests(kind: Any, *conversations: list[Message]) -> st.SearchStrategy[list[Any]]:
    """Valid conversations with up to three messages dropped, doubled, moved or replaced, and wholly random ones."""
    anything = messages_of(kind.DESCRIPTOR, GIVEN)
    pieces = [message for conversation in conversations for message in conversation]
    change = st.tuples(
        st.sampled_from(["drop", "double", "move", "insert"]),
        st.integers(0, 7),
        st.integers(0, 7),
        st.sampled_from(pieces) | anything,
    )
    changed = st.builds(_changed, st.sampled_from(conversations), st.lists(change, max_size=3))
    return changed | st.lists(st.sampled_from(pieces) | anything, min_size=1, max_size=8)


def _changed(conversation: list[Message], changes: list[tuple[str, int, int, Message]]) -> list[Message]:
    messages = list(conversation)
    for kind, at, to, message in changes:
        at %= len(messages)
        match kind:
            case "drop" if len(messages) > 1:
                del messages[at]
            case "double":
                messages.insert(at, messages[at])
            case "move":
                messages.insert(to, messages.pop(at))
            case _:
                messages.insert(at, message)
    return messages


def speak(**fields: Any) -> speech_gen_pb2.SpeakRequest:
    return speech_gen_pb2.SpeakRequest(**fields)


def thought(index: int, value: float, *, last: bool = False) -> speech_gen_pb2.SpeakRequest:
    hidden = Tensor(dtype=DATA_TYPE_FLOAT32, shape=[WIDTH], data=struct.pack("<f", value) * WIDTH)
    return speak(thought=Thought(index=index, token_id=5, hidden=hidden, last=last))


VOICE = VoicePrompt(frames=CodeFrames(codes=[3] * 16), transcript=TokenIds(ids=[1, 2]))
SPEAK = requests(
    speech_gen_pb2.SpeakRequest,
    [speak(open=SpeakOpen(voice_prompt=VOICE, sampling=Sampling(seed=1))), thought(0, 0.5), thought(1, 0.1, last=True)],
    [speak(open=SpeakOpen(voice_prompt=VOICE, max_frames=3)), thought(0, 3e38), thought(1, 1.0)],
)


def think(**fields: Any) -> reasoner_pb2.ThinkRequest:
    return reasoner_pb2.ThinkRequest(**fields)


def audio(samples: int, *, end: bool = False) -> reasoner_pb2.ThinkRequest:
    return think(audio=UserAudio(data=bytes(4 * samples), end_of_part=end))


THINK = requests(
    reasoner_pb2.ThinkRequest,
    [think(open=ThinkOpen(session_id="s", cache_scope="one")), think(text="Hello"), think(commit=Commit())],
    [
        think(open=ThinkOpen(audio_encoding=AUDIO_ENCODING_PCM_F32LE, keep=False)),
        audio(9_000),
        audio(0, end=True),
        audio(160),
        think(text="And?"),
        think(commit=Commit()),
    ],
    [
        think(open=ThinkOpen(reply_source=reasoner_pb2.REPLY_SOURCE_GIVEN)),
        think(commit=Commit()),
        think(given_text="Good day. "),
        think(given_text="x"),
    ],
    [think(open=ThinkOpen(audio_encoding=AUDIO_ENCODING_PCM_F32LE)), audio(100_000), think(commit=Commit())],
)


def decode(first: int, count: int) -> codec_pb2.DecodeRequest:
    return codec_pb2.DecodeRequest(frames=CodeFrames(first_frame=first, codes=[9] * 8 * count))


def encode(first: int, count: int) -> codec_pb2.EncodeRequest:
    return codec_pb2.EncodeRequest(pcm=Pcm(first_sample=first, data=bytes(4 * count)))


DECODE = requests(
    codec_pb2.DecodeRequest,
    [codec_pb2.DecodeRequest(open=DecodeOpen(encoding=AUDIO_ENCODING_PCM_S16LE)), decode(0, 2), decode(2, 1)],
    [codec_pb2.DecodeRequest(open=DecodeOpen()), decode(0, 0), decode(0, 3)],
)
ENCODE = requests(
    codec_pb2.EncodeRequest,
    [
        codec_pb2.EncodeRequest(
            open=EncodeOpen(format=AudioFormat(encoding=AUDIO_ENCODING_PCM_F32LE, sample_rate_hz=24_000))
        ),
        encode(0, 1920),
        encode(1920, 3),
        encode(1923, 9_000),
    ],
)
HANG_UP = st.none() | st.none() | st.integers(1, 4)


@FUZZ
@given(sent=SPEAK, hang_up=HANG_UP)
def test_speech_generator_answers_any_messages_of_a_stream(
    sent: list[Message], hang_up: int | None, services: dict[str, Running]
) -> None:
    services["speech_gen"].check("Speak", sent, hang_up_after=hang_up)


@FUZZ
@given(sent=THINK, hang_up=HANG_UP)
def test_reasoner_answers_any_messages_of_a_stream(
    sent: list[Message], hang_up: int | None, services: dict[str, Running]
) -> None:
    services["reasoner"].check("Think", sent, hang_up_after=hang_up)


@FUZZ
@given(sent=DECODE, hang_up=HANG_UP)
def test_codec_answers_any_messages_of_a_decode_stream(
    sent: list[Message], hang_up: int | None, services: dict[str, Running]
) -> None:
    services["codec"].check("Decode", sent, hang_up_after=hang_up)


@FUZZ
@given(sent=ENCODE, hang_up=HANG_UP)
def test_codec_answers_any_messages_of_an_encode_stream(
    sent: list[Message], hang_up: int | None, services: dict[str, Running]
) -> None:
    services["codec"].check("Encode", sent, hang_up_after=hang_up)


@FUZZ
@given(
    sent=st.one_of(
        messages_of(speech_gen_pb2.EnrollVoiceRequest.DESCRIPTOR, GIVEN).map(
            lambda m: ("speech_gen", "EnrollVoice", m)
        ),
        messages_of(speech_gen_pb2.ForgetVoiceRequest.DESCRIPTOR).map(lambda m: ("speech_gen", "ForgetVoice", m)),
        messages_of(reasoner_pb2.ForgetRequest.DESCRIPTOR).map(lambda m: ("reasoner", "Forget", m)),
    )
)
def test_single_calls_answer_any_message(sent: tuple[str, str, Message], services: dict[str, Running]) -> None:
    service, method, message = sent
    services[service].check(method, [message])


@pytest.mark.parametrize(
    ("service", "method", "sent"),
    [
        ("speech_gen", "Speak", SPEAK),
        ("reasoner", "Think", THINK),
        ("codec", "Decode", DECODE),
        ("codec", "Encode", ENCODE),
    ],
)
def test_the_messages_also_reach_the_end_of_a_call(
    service: str, method: str, sent: st.SearchStrategy[list[Message]], services: dict[str, Running]
) -> None:
    """The strategies are of use only if some calls succeed and some are refused."""
    codes: set[grpc.StatusCode] = set()

    @settings(FUZZ, max_examples=60)
    @given(messages=sent)
    def send(messages: list[Message]) -> None:
        codes.add(services[service].check(method, messages))

    send()
    assert {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT} <= codes
