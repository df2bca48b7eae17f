"""Paced callers over gRPC, in a process of their own: `python -m bench.gateway.callers COUNT SECONDS ADDRESS`.

Each caller speaks for 3.2 s in pieces of 80 ms, commits, listens until the reply's playback would have ended, and
begins again. Two lines of output: when the callers were all at work, and what they heard, as JSON.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc.aio

from bench.gateway.stages import REPLY_FRAMES, read_stamp
from chroma.v1 import audio_pb2, dialogue_pb2, dialogue_pb2_grpc
from services.common.wire.audio import FRAME_S, HEARING_RATE_HZ

PIECES = 40
PIECE = b"\x10\x00\xf0\xff" * round(HEARING_RATE_HZ * FRAME_S / 2)
CALLERS_A_CONNECTION = 50


@dataclass
class Heard:
    """What the callers heard of the replies to questions that ended after all callers had begun."""

    added_s: list[float] = field(default_factory=list)
    """From the commit to the first sound, less what the stages took for it by their own clocks."""
    late: int = 0
    """Pieces of speech that came after the moment of their playback."""
    failed: list[str] = field(default_factory=list)


async def call(stub: dialogue_pb2_grpc.DialogueServiceAsyncStub, begins_s: float, ends_s: float, heard: Heard) -> None:
    """One caller. Times in monotonic seconds."""
    await asyncio.sleep(begins_s - time.monotonic())
    talk = stub.Converse()
    input_format = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=HEARING_RATE_HZ)
    new_session = dialogue_pb2.SessionConfig(voice_id="bench")
    opened = dialogue_pb2.ConverseOpen(new_session=new_session, input_format=input_format)
    await talk.write(dialogue_pb2.ConverseRequest(open=opened))
    while time.monotonic() < ends_s:
        begun_s = time.monotonic()
        for piece in range(PIECES):
            await talk.write(dialogue_pb2.ConverseRequest(audio=PIECE))
            await asyncio.sleep(begun_s + (piece + 1) * FRAME_S - time.monotonic())
        committed_s = time.monotonic()
        await talk.write(dialogue_pb2.ConverseRequest(commit=dialogue_pb2.CommitTurn()))
        first_s, speech_s, late = 0.0, 0.0, 0
        while True:
            response: Any = await talk.read()
            now_s = time.monotonic()
            if response is grpc.aio.EOF:
                heard.failed.append("the conversation ended")
                return
            if response.HasField("audio"):
                if not first_s:
                    first_s, speech_s = now_s, read_stamp(response.audio.pcm.data)
                late += now_s > first_s + response.audio.pcm.first_sample / 24_000 + 0.001
            elif response.HasField("turn_done"):
                break
        if response.turn_done.HasField("error"):
            heard.failed.append(response.turn_done.error.message)
        else:
            heard.added_s.append(first_s - committed_s - response.turn_done.timings.heard_s - speech_s)
            heard.late += late
        await asyncio.sleep(first_s + REPLY_FRAMES * FRAME_S - time.monotonic())
    talk.cancel()


Talk = Callable[[float, float, Heard], Coroutine[Any, Any, None]]
"""Lets one caller talk from and until these monotonic times, and notes what it heard."""


async def let_talk(talks: Sequence[Talk], seconds: float) -> None:
    """Let callers begin one after the other, over the length of one turn, and then talk for `seconds`. Prints when the
    callers were all at work, and what they heard."""
    gc.freeze()  # no message waits for a walk of the garbage collector through all modules
    turn_s = (PIECES + REPLY_FRAMES) * FRAME_S
    now_s = time.monotonic()
    heard = Heard()
    ends_s = now_s + turn_s + seconds
    talking = asyncio.gather(*(talk(now_s + turn_s * n / len(talks), ends_s, heard) for n, talk in enumerate(talks)))
    await asyncio.sleep(turn_s)
    print("all at work", flush=True)
    await talking
    print(json.dumps(vars(heard)), flush=True)


def open_channels(address: str, count: int) -> list[grpc.aio.Channel]:
    """Connections for so many callers."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    return [grpc.aio.insecure_channel(address, options=options) for _ in range(-(-count // CALLERS_A_CONNECTION))]


async def main(count: int, seconds: float, address: str) -> None:
    """Let so many callers talk with the gateway at this address."""
    stubs = [dialogue_pb2_grpc.DialogueServiceStub(channel) for channel in open_channels(address, count)]
    await let_talk([partial(call, stubs[n % len(stubs)]) for n in range(count)], seconds)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]))
