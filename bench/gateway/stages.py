"""The three stages as fakes at a model's pace, in a process of their own: `python -m bench.gateway.stages`.

They compute nothing. A reply has a fixed number of thoughts of the published checkpoint's width. The speech generator
sends frames as the real one does: fast until its lead is full, then one for each 80 ms.

What the first thought and the first frame of a turn really took here goes to the caller with the reply: in
`TurnTimings.heard_s` and in the first samples of the sound.
"""

from __future__ import annotations

import asyncio
import gc
import struct
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any, Generic, TypeVar

from chroma.v1 import codec_pb2, reasoner_pb2, speech_gen_pb2
from chroma.v1.audio_pb2 import CodeFrames, Pcm
from chroma.v1.generation_pb2 import END_REASON_EOS
from chroma.v1.tensor_pb2 import DATA_TYPE_BFLOAT16, Tensor
from services.common.rpc.requests import read_open
from services.common.wire.audio import CODEBOOKS, FRAME_S, FRAME_SAMPLES, FRAMES_PER_THOUGHT, THOUGHT_S
from services.reasoner.servicer import GROUP_THOUGHTS, hold_s_of
from services.runtime.engine.groups import in_groups
from services.speech_gen.servicer import GROUP_FRAMES
from services.speech_gen.servicer import HOLD_S as HOLD_FRAMES_S
from tests.support import fake_services

ItemT = TypeVar("ItemT")

WIDTH = 2048
"""Of the published thinker's hidden state."""
FIRST_THOUGHT_S, THINKS_S = 0.03, 0.015
FIRST_FRAME_S, NEXT_FRAME_S = 0.02, 0.02
REPLY_FRAMES = 150
"""12 s."""
LEAD_S = 2.0
_HIDDEN = Tensor(dtype=DATA_TYPE_BFLOAT16, shape=[WIDTH], data=bytes(2 * WIDTH))
_CODES = [7] * CODEBOOKS
_SOUND = bytes(range(256)) * (2 * FRAME_SAMPLES // 256)


class _Paced(Generic[ItemT]):
    """The outputs of a stream, which a task makes at a model's pace."""

    def __init__(self, make: Callable[[Callable[[ItemT], None]], Coroutine[Any, Any, None]]) -> None:
        self._ready: deque[ItemT] = deque()
        self._news = asyncio.Event()
        self._making = asyncio.create_task(make(self._put))
        self._making.add_done_callback(lambda _: self._news.set())

    def _put(self, item: ItemT) -> None:
        self._ready.append(item)
        self._news.set()

    async def __aiter__(self) -> AsyncIterator[ItemT]:
        while self._ready or not self._making.done():
            if self._ready:
                yield self._ready.popleft()
            else:
                self._news.clear()
                await self._news.wait()

    def take_ready(self, most: int) -> list[ItemT]:
        """Up to `most` further outputs that are there already."""
        return [self._ready.popleft() for _ in range(min(most, len(self._ready)))]


class Reasoner(fake_services.FakeReasoner):
    """Answers each turn with the same number of thoughts, one for each `THINKS_S`."""

    async def Think(  # noqa: N802
        self, request_iterator: AsyncIterator[reasoner_pb2.ThinkRequest], context: Any
    ) -> AsyncIterator[reasoner_pb2.ThinkResponse]:
        opened = (await read_open(request_iterator)).open
        admitted = reasoner_pb2.ThinkOpened(checkpoint_fingerprint=self.script.checkpoint, takes_ends_turn=True)
        yield reasoner_pb2.ThinkResponse(opened=admitted)
        async for request in request_iterator:
            if request.ends_turn or request.HasField("commit"):
                break
        thinking = _Paced(partial(_think, time.monotonic()))
        most = GROUP_THOUGHTS if opened.takes_groups else 1
        async for thoughts in in_groups(thinking, output_s=THOUGHT_S, hold_s=hold_s_of(opened), most=most):
            yield reasoner_pb2.ThinkResponse(thoughts=reasoner_pb2.Thoughts(thoughts=thoughts))
        yield reasoner_pb2.ThinkResponse(done=reasoner_pb2.ThinkDone(reason=END_REASON_EOS))


async def _think(committed_s: float, put: Callable[[reasoner_pb2.Thought], None]) -> None:
    last = REPLY_FRAMES // FRAMES_PER_THOUGHT - 1
    begun_s = committed_s + FIRST_THOUGHT_S
    for index in range(last + 1):
        await asyncio.sleep(begun_s + index * THINKS_S - time.monotonic())
        took_s = time.monotonic() - committed_s
        heard = reasoner_pb2.Heard(prompt_tokens=30, prefill_s=took_s) if index == 0 else None
        put(
            reasoner_pb2.Thought(
                index=index, token_id=100, text=" word", hidden=_HIDDEN, last=index == last, heard=heard
            )
        )


class SpeechGen(fake_services.FakeSpeechGen):
    """Makes two frames of each thought, at most `LEAD_S` ahead of their playback."""

    async def Speak(  # noqa: N802
        self, request_iterator: AsyncIterator[speech_gen_pb2.SpeakRequest], context: Any
    ) -> AsyncIterator[speech_gen_pb2.SpeakResponse]:
        opened = (await read_open(request_iterator)).open
        yield speech_gen_pb2.SpeakResponse(
            opened=speech_gen_pb2.SpeakOpened(
                checkpoint_fingerprint=self.script.checkpoint,
                voice_fingerprint=opened.voice_fingerprint,
                seed=1,
                takes_groups=True,
            )
        )
        first_frame = 0
        speaking = _Paced(partial(_speak, request_iterator))
        async for frames in in_groups(speaking, output_s=FRAME_S, hold_s=HOLD_FRAMES_S, most=GROUP_FRAMES):
            codes = [code for frame in frames for code in frame]
            yield speech_gen_pb2.SpeakResponse(frames=CodeFrames(first_frame=first_frame, codes=codes))
            first_frame += len(frames)
        yield speech_gen_pb2.SpeakResponse(done=speech_gen_pb2.SpeakDone(reason=END_REASON_EOS, frames=first_frame))
        async for _ in request_iterator:
            pass


async def _speak(requests: AsyncIterator[speech_gen_pb2.SpeakRequest], put: Callable[[list[int]], None]) -> None:
    thoughts, frame, asked_s, first_s, ready_s = 0, 0, 0.0, 0.0, 0.0
    async for request in requests:
        asked_s = asked_s or time.monotonic()
        thoughts += len(request.thoughts.thoughts) or 1
        while frame < FRAMES_PER_THOUGHT * thoughts:
            now_s = time.monotonic()
            first_s = first_s or now_s + FIRST_FRAME_S
            ready_s = max(ready_s + NEXT_FRAME_S, first_s + frame * FRAME_S - LEAD_S, now_s) if frame else first_s
            await asyncio.sleep(ready_s - now_s)
            put(_CODES if frame else [*_stamp(time.monotonic() - asked_s), *_CODES[2:]])
            frame += 1
        if frame == REPLY_FRAMES:
            return


_MILLIONTHS = struct.Struct("<HH")
"""Whole milliseconds, and the millionths of a second that are left: two codes of a frame, or two samples."""


def _stamp(took_s: float) -> tuple[int, int]:
    return divmod(round(1e6 * min(took_s, 2.0)), 1_000)


def read_stamp(sound: bytes) -> float:
    """The seconds from the first thought at the speech generator to the first frame, from the reply's first sound."""
    milliseconds, millionths = _MILLIONTHS.unpack_from(sound)
    return milliseconds / 1e3 + millionths / 1e6


class Codec(fake_services.FakeCodec):
    """Answers frames with the same sound at once. The first two codes of the reply become its first two samples."""

    async def Decode(  # noqa: N802
        self, request_iterator: AsyncIterator[codec_pb2.DecodeRequest], context: Any
    ) -> AsyncIterator[codec_pb2.DecodeResponse]:
        await read_open(request_iterator)
        async for request in request_iterator:
            frames = len(request.frames.codes) // CODEBOOKS
            sound = _SOUND * frames
            if request.frames.first_frame == 0:
                sound = _MILLIONTHS.pack(*request.frames.codes[:2]) + sound[_MILLIONTHS.size :]
            pcm = Pcm(first_sample=request.frames.first_frame * FRAME_SAMPLES, data=sound)
            yield codec_pb2.DecodeResponse(pcm=pcm)


async def main() -> None:
    """Serve until the process is ended. One line of output: the addresses of the three stages."""
    stages = [fake_services.FakeService(name) for name in ("reasoner", "speech_gen", "codec")]
    for stage, servicer in zip(stages, (Reasoner, SpeechGen, Codec), strict=True):
        await stage.start(servicer)
    gc.freeze()  # no message waits for a walk of the garbage collector through all modules
    print(*(stage.address for stage in stages), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
