"""CodecService over real gRPC, on the golden checkpoint."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import grpc
import numpy as np
import pytest
from grpc import aio

from chroma.v1 import codec_pb2, codec_pb2_grpc
from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_F32LE, AudioFormat, CodeFrames, Pcm
from chroma.v1.codec_pb2 import DecodeOpen, DecodeRequest, EncodeOpen, EncodeRequest
from services.codec.model.mimi import Mimi
from services.codec.runner import CodecRunner
from services.codec.servicer import CodecEngine, CodecServicer
from services.common.rpc.server import Server
from services.common.settings import ServiceSettings
from services.runtime.checkpoint.checkpoint import Checkpoint
from tests.support.golden_checkpoint import golden_checkpoint
from tests.support.golden_files import load_golden
from tests.support.paths import PUBLIC_GOLDEN

GOLDEN = PUBLIC_GOLDEN

CHECKPOINT = "0123456789abcdef"

OPEN_DECODE = DecodeRequest(open=DecodeOpen(encoding=AUDIO_ENCODING_PCM_F32LE))
OPEN_ENCODE = EncodeRequest(
    open=EncodeOpen(format=AudioFormat(encoding=AUDIO_ENCODING_PCM_F32LE, sample_rate_hz=24_000))
)


class Service:
    """A running codec service: its stub and its runner, to look into."""

    def __init__(self, stub: codec_pb2_grpc.CodecServiceAsyncStub, runner: CodecRunner) -> None:
        self.stub = stub
        self.runner = runner

    async def decode(self, requests: Iterable[DecodeRequest]) -> np.ndarray:
        """The whole PCM [S] of a request stream."""
        messages = [response.pcm async for response in self.stub.Decode(iter(requests))]
        assert [m.first_sample for m in messages] == np.cumsum([0, *(len(m.data) // 4 for m in messages)])[:-1].tolist()
        return np.frombuffer(b"".join(m.data for m in messages), dtype="<f4")

    async def encode(self, requests: Iterable[EncodeRequest]) -> np.ndarray:
        """All codes [T, 8] of a request stream."""
        codes = [code async for response in self.stub.Encode(iter(requests)) for code in response.frames.codes]
        return np.array(codes).reshape(-1, 8)


@pytest.fixture(scope="module")
def mimi() -> Mimi:
    return Mimi.load(Checkpoint.open(golden_checkpoint()))


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in load_golden(GOLDEN, "basic_audio").items()}


@pytest.fixture
async def service(mimi: Mimi) -> AsyncIterator[Service]:
    runner = CodecRunner(mimi, decode_slots=2, encode_slots=1)
    engine = CodecEngine("codec", runner)
    server = Server(ServiceSettings())
    servicer = CodecServicer(engine, max_encode_s=10, checkpoint_fingerprint=CHECKPOINT)
    codec_pb2_grpc.add_CodecServiceServicer_to_server(servicer, server.grpc)
    port = await server.start()
    engine.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Service(codec_pb2_grpc.CodecServiceStub(channel), runner)
    await server.grpc.stop(0)
    engine.stop()


def frames_of(codes: np.ndarray, chunk: int) -> list[DecodeRequest]:
    """Requests for codes [T, 8], `chunk` frames each."""
    return [
        DecodeRequest(frames=CodeFrames(first_frame=first, codes=codes[first : first + chunk].reshape(-1).tolist()))
        for first in range(0, len(codes), chunk)
    ]


def pcm_of(samples: np.ndarray, chunk: int) -> list[EncodeRequest]:
    """Requests for samples [S], `chunk` samples each."""
    return [
        EncodeRequest(pcm=Pcm(first_sample=first, data=samples[first : first + chunk].astype("<f4").tobytes()))
        for first in range(0, len(samples), chunk)
    ]


@pytest.mark.parametrize("chunk", [1, 3, 40])
async def test_decoded_frames_equal_the_reference_in_any_chunking(
    service: Service, golden: dict[str, np.ndarray], chunk: int
) -> None:
    pcm = await service.decode([OPEN_DECODE, *frames_of(golden["out.frames"][0], chunk)])
    assert pcm.shape == golden["out.pcm.0"].shape
    assert np.abs(pcm - golden["out.pcm.0"]).max() < 1e-5


@pytest.mark.parametrize("chunk", [517, 1920, 100_000])
async def test_encoded_codes_equal_the_reference_in_any_chunking(
    service: Service, golden: dict[str, np.ndarray], chunk: int
) -> None:
    codes = await service.encode([OPEN_ENCODE, *pcm_of(golden["in.input_values"].reshape(-1), chunk)])
    assert np.array_equal(codes, golden["out.prompt_audio_codes"][0].T)


async def test_frames_of_another_checkpoint_are_refused(service: Service, golden: dict[str, np.ndarray]) -> None:
    frames = frames_of(golden["out.frames"][0][:2], 2)
    opened = DecodeOpen(encoding=AUDIO_ENCODING_PCM_F32LE, checkpoint_fingerprint="other")
    with pytest.raises(aio.AioRpcError) as raised:
        await service.decode([DecodeRequest(open=opened), *frames])
    assert raised.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert raised.value.details() == f"expected checkpoint other, this replica runs {CHECKPOINT}"
    opened.checkpoint_fingerprint = CHECKPOINT
    assert len(await service.decode([DecodeRequest(open=opened), *frames])) == 2 * 1920


ZERO_FRAME = DecodeRequest(frames=CodeFrames(codes=[0] * 8))


@pytest.mark.parametrize(
    ("requests", "complaint"),
    [
        ([], "got the end of the stream"),
        ([ZERO_FRAME], "expected `open` as the first message, got `frames`"),
        ([DecodeRequest()], "got an empty one"),
        ([OPEN_DECODE, OPEN_DECODE], "expected `open` once"),
        ([DecodeRequest(open=DecodeOpen(encoding=9))], "expected audio encoding"),  # pyright: ignore[reportArgumentType]
        ([OPEN_DECODE, ZERO_FRAME, ZERO_FRAME], "frames out of order: expected first_frame 1, got 0"),
        ([OPEN_DECODE, DecodeRequest(frames=CodeFrames(codes=[0] * 9))], "multiple of 8 codes, got 9"),
        (
            [OPEN_DECODE, DecodeRequest(frames=CodeFrames(codes=[2048] + [0] * 7))],
            "expected codes in 0..2047",
        ),
        (
            [OPEN_DECODE, DecodeRequest(frames=CodeFrames(codes=[0] * 8 * 1025))],
            "at most 1024 frames in a message, got 1025",
        ),
    ],
)
async def test_a_bad_decode_stream_is_refused_and_the_next_one_served(
    service: Service, golden: dict[str, np.ndarray], requests: list[DecodeRequest], complaint: str
) -> None:
    with pytest.raises(aio.AioRpcError) as caught:
        await service.decode(requests)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert complaint in (caught.value.details() or "")
    assert len(await service.decode([OPEN_DECODE, *frames_of(golden["out.frames"][0][:2], 1)])) == 2 * 1920
    assert service.runner.free_decode_slots == 2


def _open_encode(rate_hz: int) -> EncodeRequest:
    return EncodeRequest(open=EncodeOpen(format=AudioFormat(encoding=AUDIO_ENCODING_PCM_F32LE, sample_rate_hz=rate_hz)))


SILENCE = np.zeros(1920, dtype=np.float32)


@pytest.mark.parametrize(
    ("requests", "status", "complaint"),
    [
        ([OPEN_ENCODE], "INVALID_ARGUMENT", "at least one sample"),
        ([_open_encode(16_000)], "INVALID_ARGUMENT", "expected audio at 24000 Hz, got 16000 Hz"),
        ([OPEN_ENCODE, EncodeRequest(pcm=Pcm(data=b"abc"))], "INVALID_ARGUMENT", "whole samples of 4 bytes"),
        ([OPEN_ENCODE, *pcm_of(np.array([np.nan]), 1)], "INVALID_ARGUMENT", "expected finite samples, got nan"),
        ([OPEN_ENCODE, *pcm_of(SILENCE, 1920), *pcm_of(SILENCE, 1920)], "INVALID_ARGUMENT", "samples out of order"),
        ([OPEN_ENCODE, *pcm_of(np.zeros(240_001), 24_000)], "OUT_OF_RANGE", "at most 10 s of audio"),
    ],
)
async def test_a_bad_encode_stream_is_refused_and_the_next_one_served(
    service: Service, requests: list[EncodeRequest], status: str, complaint: str
) -> None:
    with pytest.raises(aio.AioRpcError) as caught:
        await service.encode(requests)
    assert caught.value.code().name == status
    assert complaint in (caught.value.details() or "")
    assert len(await service.encode([OPEN_ENCODE, *pcm_of(SILENCE, 1920)])) == 1
    assert service.runner.free_encode_slots == 1


async def test_one_frame_in_gives_1920_samples_out_before_the_next_comes(service: Service) -> None:
    call = service.stub.Decode()
    await call.write(OPEN_DECODE)
    for frame in range(3):
        await call.write(DecodeRequest(frames=CodeFrames(first_frame=frame, codes=[7] * 8)))
        response = await call.read()
        assert isinstance(response, codec_pb2.DecodeResponse)
        assert len(response.pcm.data) == 4 * 1920
    await call.done_writing()
    assert await call.read() is aio.EOF


async def test_a_caller_that_hangs_up_frees_its_slot_and_a_full_codec_says_when_to_return(service: Service) -> None:
    calls = [service.stub.Decode() for _ in range(2)]
    for call in calls:
        await call.write(OPEN_DECODE)
        await call.write(ZERO_FRAME)
        await call.read()
    with pytest.raises(aio.AioRpcError) as caught:
        await service.decode([OPEN_DECODE, ZERO_FRAME])
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    retry_after_ms = int(dict(caught.value.trailing_metadata() or ())["retry-after-ms"])
    assert 1_000 <= retry_after_ms <= 10_000
    calls[0].cancel()
    while service.runner.free_decode_slots == 0:  # noqa: ASYNC110 until the cancellation has travelled
        await asyncio.sleep(0.001)
    assert len(await service.decode([OPEN_DECODE, ZERO_FRAME])) == 1920
    calls[1].cancel()
