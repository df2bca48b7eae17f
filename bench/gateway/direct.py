"""Paced callers without a gateway: `python -m bench.gateway.direct COUNT SECONDS REASONER SPEECH_GEN CODEC`.

They do what callers.py does, and make the calls of a turn themselves, as a gateway makes them: Think with the first
sound, in messages of the same length; Speak and Decode when the commit has been sent. Each thought and each frame is
passed on as it comes. So their first sound has all that is not the gateway's: the transport to and from three stages,
and the work of the stages' process and of the callers' process. The output is that of callers.py.
"""

from __future__ import annotations

import asyncio
import sys
import time
from functools import partial
from typing import Any

import grpc.aio

from bench.gateway.callers import PIECE, PIECES, Heard, let_talk, open_channels
from bench.gateway.stages import REPLY_FRAMES, read_stamp
from chroma.v1 import codec_pb2, codec_pb2_grpc, reasoner_pb2, reasoner_pb2_grpc, speech_gen_pb2, speech_gen_pb2_grpc
from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE
from services.common.wire.audio import FRAME_S, FRAMES_PER_THOUGHT

PIECES_A_MESSAGE = 6
"""0.48 s of speech, as the gateway sends it."""
MAX_HOLD_S = 0.24
"""As the gateway lets the reasoner hold thoughts."""


class Stubs:
    """The stages, over connections of their own."""

    def __init__(self, reasoner: grpc.aio.Channel, speech_gen: grpc.aio.Channel, codec: grpc.aio.Channel) -> None:
        self.reasoner: Any = reasoner_pb2_grpc.ReasonerServiceStub(reasoner)
        self.speech_gen: Any = speech_gen_pb2_grpc.SpeechGenServiceStub(speech_gen)
        self.codec: Any = codec_pb2_grpc.CodecServiceStub(codec)


async def call(stubs: Stubs, begins_s: float, ends_s: float, heard: Heard) -> None:
    """One caller. Times in monotonic seconds."""
    await asyncio.sleep(begins_s - time.monotonic())
    while True:
        first_s = await _turn(stubs, heard)
        await asyncio.sleep(first_s + REPLY_FRAMES * FRAME_S - time.monotonic())
        if time.monotonic() >= ends_s:
            return


async def _turn(stubs: Stubs, heard: Heard) -> float:
    """One turn. Returns when its first sound came."""
    think = stubs.reasoner.Think()
    opened = reasoner_pb2.ThinkOpen(
        audio_encoding=AUDIO_ENCODING_PCM_S16LE,
        max_thoughts=REPLY_FRAMES // FRAMES_PER_THOUGHT,
        takes_groups=True,
        max_hold_s=MAX_HOLD_S,
    )
    await think.write(reasoner_pb2.ThinkRequest(open=opened))
    begun_s = time.monotonic()
    for piece in range(PIECES):
        await asyncio.sleep(begun_s + (piece + 1) * FRAME_S - time.monotonic())
        waiting = (piece + 1) % PIECES_A_MESSAGE
        if waiting == 0:
            await _hear(think, PIECES_A_MESSAGE)
    committed_s = time.monotonic()
    if PIECES % PIECES_A_MESSAGE:
        await _hear(think, PIECES % PIECES_A_MESSAGE, ends_turn=True)
    else:
        await think.write(reasoner_pb2.ThinkRequest(commit=reasoner_pb2.Commit()))
    speak, decode = stubs.speech_gen.Speak(), stubs.codec.Decode()
    await asyncio.gather(
        speak.write(speech_gen_pb2.SpeakRequest(open=speech_gen_pb2.SpeakOpen(max_frames=REPLY_FRAMES))),
        decode.write(codec_pb2.DecodeRequest(open=codec_pb2.DecodeOpen(encoding=AUDIO_ENCODING_PCM_S16LE))),
    )
    heard_s, _, (first_s, speech_s, late) = await asyncio.gather(
        _think(think, speak), _speak(speak, decode), _listen(decode)
    )
    heard.added_s.append(first_s - committed_s - heard_s - speech_s)
    heard.late += late
    return first_s


async def _hear(think: Any, pieces: int, *, ends_turn: bool = False) -> None:
    audio = reasoner_pb2.UserAudio(data=PIECE * pieces)
    await think.write(reasoner_pb2.ThinkRequest(audio=audio, ends_turn=ends_turn))


async def _think(think: Any, speak: Any) -> float:
    """Pass the thoughts on to be spoken. Returns the time to the first one, by the reasoner's clock."""
    heard_s = 0.0
    while (response := await think.read()) is not grpc.aio.EOF:
        if response.HasField("thoughts"):
            thoughts = response.thoughts.thoughts
            heard_s = heard_s or thoughts[0].heard.prefill_s
            await speak.write(speech_gen_pb2.SpeakRequest(thoughts=response.thoughts))
    await speak.done_writing()
    return heard_s


async def _speak(speak: Any, decode: Any) -> None:
    """Pass the frames on to the codec."""
    while (response := await speak.read()) is not grpc.aio.EOF:
        if response.HasField("frames"):
            await decode.write(codec_pb2.DecodeRequest(frames=response.frames))
    await decode.done_writing()


async def _listen(decode: Any) -> tuple[float, float, int]:
    """Returns when the first sound came, the time to the first frame by the speech generator's clock, and how many
    pieces came after the moment of their playback."""
    first_s, speech_s, late = 0.0, 0.0, 0
    while (response := await decode.read()) is not grpc.aio.EOF:
        now_s = time.monotonic()
        if not first_s:
            first_s, speech_s = now_s, read_stamp(response.pcm.data)
        late += now_s > first_s + response.pcm.first_sample / 24_000 + 0.001
    return first_s, speech_s, late


async def main(count: int, seconds: float, *addresses: str) -> None:
    """Let so many callers talk with the stages at these addresses."""
    connections = zip(*(open_channels(address, count) for address in addresses), strict=True)
    stubs = [Stubs(*channels) for channels in connections]
    await let_talk([partial(call, stubs[n % len(stubs)]) for n in range(count)], seconds)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]), *sys.argv[3:]))
