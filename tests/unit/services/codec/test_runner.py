from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from services.codec.messages import Decode, Encode
from services.codec.model.mimi import Mimi
from services.codec.runner import CodecRunner
from services.common.errors import CheckpointError, InvalidArgument, ResourceExhausted
from services.common.wire.audio import FRAME_SAMPLES
from services.runtime.checkpoint.checkpoint import Checkpoint
from services.runtime.engine.engine import Engine
from tests.support.random_mimi import write_random
from tests.unit.services.codec.model.test_encode import noise

CodecEngine = Engine[Any, np.ndarray, np.ndarray, Any]


def random_codes(frames: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2048, (frames, 8)).astype(np.uint16)


@contextmanager
def running(runner: CodecRunner, **limits: Any) -> Iterator[CodecEngine]:
    engine: CodecEngine = Engine("codec", runner, **limits)
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()


async def answer(
    engine: CodecEngine, request: Decode | Encode, chunks: list[np.ndarray], pause: Callable[[], Awaitable[None]]
) -> np.ndarray:
    """Everything a stream gives for these chunks."""

    async def feed() -> None:
        for chunk in chunks:
            await stream.feed(chunk)
            await pause()
        stream.finish()

    async with engine.open(request) as stream:
        feeder = asyncio.create_task(feed())
        outputs = [output async for output in stream]
        await feeder
    return np.concatenate(outputs)


async def no_pause() -> None:
    """Feed as fast as the inbox takes it."""


async def next_output(stream: AsyncIterator[np.ndarray]) -> np.ndarray:
    return await asyncio.wait_for(anext(stream), 30)


def split(array: np.ndarray, rng: np.random.Generator, most: int) -> list[np.ndarray]:
    chunks: list[np.ndarray] = []
    while len(array):
        size = int(rng.integers(1, most + 1))
        chunks.append(array[:size])
        array = array[size:]
    return chunks


@pytest.mark.parametrize("width", [None, 2])
async def test_concurrent_streams_equal_being_alone(mimi: Mimi, width: int | None) -> None:
    rng = np.random.default_rng(7)
    codes = [random_codes(int(rng.integers(1, 30)), seed) for seed in range(10)]
    recordings = [noise(int(rng.integers(1, 20_000)), seed) for seed in range(3)]
    runner = CodecRunner(mimi, decode_slots=10, encode_slots=3, width=width)

    async def pause() -> None:
        for _ in range(int(rng.integers(0, 4))):
            await asyncio.sleep(0)

    with running(runner, inbox_items=3, outbox_items=2) as engine:
        answers = await asyncio.gather(
            *[answer(engine, Decode(), split(c, rng, 4), pause) for c in codes],
            *[answer(engine, Encode(), split(r, rng, 5000), pause) for r in recordings],
        )
    for found, frames in zip(answers[:10], codes, strict=True):
        assert np.abs(found - mimi.decode(frames)).max() < 1e-5
        assert found.shape == (len(frames) * FRAME_SAMPLES,)
    for found, pcm in zip(answers[10:], recordings, strict=True):
        assert found.dtype == np.uint16
        assert np.array_equal(found, mimi.encode(pcm))
    assert (runner.free_decode_slots, runner.free_encode_slots) == (10, 3)


async def test_each_frame_sounds_before_the_next_is_sent(mimi: Mimi) -> None:
    codes = random_codes(5, seed=1)
    with running(CodecRunner(mimi, decode_slots=1)) as engine:
        async with engine.open(Decode()) as stream:
            heard: list[np.ndarray] = []
            for frame in codes:
                await stream.feed(frame[None])
                heard.append(await next_output(stream))
    assert [len(pcm) for pcm in heard] == [FRAME_SAMPLES] * 5
    assert np.abs(np.concatenate(heard) - mimi.decode(codes)).max() < 1e-5


async def test_a_full_codec_refuses_at_once_and_admits_again_after_a_release(mimi: Mimi) -> None:
    runner = CodecRunner(mimi, decode_slots=2, encode_slots=1)
    with running(runner) as engine:
        async with engine.open(Decode()), engine.open(Encode()):
            async with engine.open(Decode()):
                with pytest.raises(ResourceExhausted, match="all 2 decode slots"):
                    async with engine.open(Decode()):
                        pass
                with pytest.raises(ResourceExhausted, match="encode slots"):
                    async with engine.open(Encode()):
                        pass
            assert runner.free_decode_slots == 1
            async with engine.open(Decode()) as stream:
                await stream.feed(random_codes(1, seed=2))
                assert len(await next_output(stream)) == FRAME_SAMPLES
        assert (runner.free_decode_slots, runner.free_encode_slots) == (2, 1)


async def test_a_cancelled_stream_frees_its_slot_and_the_next_one_hears_nothing_of_it(mimi: Mimi) -> None:
    runner = CodecRunner(mimi, decode_slots=1, encode_slots=1)
    codes = random_codes(4, seed=3)
    with running(runner) as engine:
        started = asyncio.Event()

        async def endless(request: Decode | Encode, chunk: np.ndarray) -> None:
            async with engine.open(request) as stream:
                await stream.feed(chunk)
                await anext(stream)
                started.set()
                await asyncio.Event().wait()

        for request, chunk in ((Decode(), random_codes(9, seed=4)), (Encode(), noise(9000, seed=4))):
            started.clear()
            task = asyncio.create_task(endless(request, chunk))
            await asyncio.wait_for(started.wait(), 30)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert (runner.free_decode_slots, runner.free_encode_slots) == (1, 1)
        found = await answer(engine, Decode(), [codes], no_pause)
    assert np.abs(found - mimi.decode(codes)).max() < 1e-5


async def test_bad_input_ends_its_own_stream_only(mimi: Mimi) -> None:
    runner = CodecRunner(mimi, decode_slots=2, encode_slots=1)
    with running(runner) as engine:
        async with engine.open(Decode()) as good:
            await good.feed(random_codes(1, seed=5))
            await next_output(good)
            for request, bad in (
                (Decode(), np.full((1, 8), 2050)),
                (Decode(), np.zeros((3, 4), dtype=np.int64)),
                (Encode(), np.array([np.nan], dtype=np.float32)),
            ):
                async with engine.open(request) as stream:
                    await stream.feed(bad)
                    with pytest.raises(InvalidArgument, match="expected"):
                        await next_output(stream)
            await good.feed(random_codes(1, seed=6))
            assert len(await next_output(good)) == FRAME_SAMPLES
        assert (runner.free_decode_slots, runner.free_encode_slots) == (2, 1)


async def test_a_stream_without_input_ends_empty(mimi: Mimi) -> None:
    with running(CodecRunner(mimi, decode_slots=1)) as engine:
        for request in (Decode(), Encode()):
            async with engine.open(request) as stream:
                stream.finish()
                assert [output async for output in stream] == []


async def test_a_slow_reader_is_left_out_and_others_go_on(mimi: Mimi) -> None:
    codes = random_codes(20, seed=7)
    with running(CodecRunner(mimi, decode_slots=2), outbox_items=2) as engine:
        async with engine.open(Decode()) as slow:
            await slow.feed(codes)
            slow.finish()
            found = await answer(engine, Decode(), [codes], no_pause)
            assert len(found) == len(codes) * FRAME_SAMPLES
            assert not slow.has_room
            late = np.concatenate([output async for output in slow])
    assert np.abs(late - found).max() < 1e-5


class Unattended:
    """A stream as the runner sees it, without an event loop: everything fed already, everything taken at once."""

    def __init__(self, request: Decode | Encode, chunks: list[np.ndarray]) -> None:
        self.request, self.inbox, self.input_ended = request, list(chunks), True
        self.state: Any = None
        self.opened_s, self.has_room = 0.0, True

    def take_input(self) -> np.ndarray:
        return self.inbox.pop(0)


def test_encoding_never_holds_up_decoders_for_more_than_one_piece(mimi: Mimi) -> None:
    runner = CodecRunner(mimi, decode_slots=1, encode_slots=2, step_frames=1, encode_step_frames=2)
    requests = [(Decode(), random_codes(6, seed=8)), (Encode(), noise(40_000, seed=8)), (Encode(), noise(9000, seed=9))]
    for request, item in requests:
        runner.admit(Unattended(request, [item]))  # type: ignore[arg-type]
    kinds = ""
    while (work := runner.schedule(0.0)) and not work.ending:
        runner.step(work)
        kinds += "e" if work.encoding else "d"
    assert kinds.startswith("edededed")


def test_an_admission_that_fails_takes_no_slot(mimi: Mimi, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = CodecRunner(mimi, decode_slots=1, encode_slots=1)

    def fail(*arguments: object) -> None:
        raise MemoryError("no memory for a stream's state")

    monkeypatch.setattr(mimi.encoder, "new_state", fail)
    monkeypatch.setattr(runner.decode_step.state, "reset", fail)
    for request in (Decode(), Encode()):
        with pytest.raises(MemoryError):
            runner.admit(Unattended(request, []))  # type: ignore[arg-type]
    assert (runner.free_decode_slots, runner.free_encode_slots) == (1, 1)


def test_warm_up_finds_weights_that_give_no_sound(mimi: Mimi, tmp_path: Any) -> None:
    CodecRunner(mimi, decode_slots=1).warm_up()
    broken: Checkpoint = write_random(tmp_path, seed=1, layer_scale_initial_scale=float("nan"))
    with pytest.raises(CheckpointError, match="not finite"):
        CodecRunner(Mimi.load(broken), decode_slots=1).warm_up()
