"""The request streams of a turn's calls."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE, CodeFrames
from chroma.v1.codec_pb2 import DecodeOpen
from chroma.v1.dialogue_pb2 import SessionConfig
from chroma.v1.reasoner_pb2 import REPLY_SOURCE_GENERATED, REPLY_SOURCE_GIVEN, Thought
from chroma.v1.speech_gen_pb2 import Sampling, SpeakOpen, VoicePrompt
from gateway.pipeline.requests import TurnPlan, decode_requests, speak_requests, think_requests
from gateway.pipeline.turn_input import ForcedReply, UserInput
from gateway.store.records import TurnRecord

_PLAN = TurnPlan(
    session_id="session",
    config=SessionConfig(),
    system_prompt="be brief",
    history=(),
    voice=None,
    sampling=Sampling(seed=7),
    max_frames=25,
    max_lead_s=2.0,
    output_encoding=AUDIO_ENCODING_PCM_S16LE,
)


async def test_think_opens_with_the_history_and_room_for_the_longest_reply_then_passes_the_input_on() -> None:
    source = UserInput(None, max_audio_s=1, max_chars=100)
    source.add_text("question")
    source.commit()
    past = TurnRecord("turn-1", user=("hello",), token_ids=(3,), texts=("Hi",), heard_tokens=1)
    opened, text, commit = [request async for request in think_requests(_PLAN, [past], source)]
    assert (opened.open.session_id, opened.open.system_prompt) == ("session", "be brief")
    assert [message.role for message in opened.open.history] == [message.role for message in past.messages()]
    assert opened.open.max_thoughts == 13  # a thought for every two frames, rounded up
    assert opened.open.reply_source == REPLY_SOURCE_GENERATED
    assert (text.text, commit.HasField("commit")) == ("question", True)


async def test_think_says_that_the_client_gives_the_reply() -> None:
    source = ForcedReply(max_chars=100)
    source.add_text("Good morning", end=True)
    opened, commit, text = [request async for request in think_requests(replace(_PLAN, system_prompt=None), [], source)]
    assert opened.open.reply_source == REPLY_SOURCE_GIVEN
    assert not opened.open.HasField("system_prompt")
    assert commit.HasField("commit")
    assert text.given_text == "Good morning"


async def test_speak_takes_no_thought_before_it_is_admitted() -> None:
    thoughts: asyncio.Queue[Thought | None] = asyncio.Queue()
    thoughts.put_nowait(Thought(index=0))
    admitted = asyncio.Event()
    opened = SpeakOpen(voice_fingerprint="fingerprint", max_frames=25)
    requests = speak_requests(opened, admitted, asyncio.Event(), thoughts)
    assert (await anext(requests)).open == opened
    following = asyncio.ensure_future(anext(requests))
    await asyncio.sleep(0)
    assert thoughts.qsize() == 1
    admitted.set()
    assert (await following).thought.index == 0
    await requests.aclose()


async def test_speak_sends_no_thought_after_the_speech_has_ended() -> None:
    thoughts: asyncio.Queue[Thought | None] = asyncio.Queue()
    admitted, spoken = asyncio.Event(), asyncio.Event()
    admitted.set()
    spoken.set()
    thoughts.put_nowait(Thought(index=0))
    requests = [
        request async for request in speak_requests(SpeakOpen(voice_prompt=VoicePrompt()), admitted, spoken, thoughts)
    ]
    assert [request.WhichOneof("request") for request in requests] == ["open"]
    assert requests[0].open.WhichOneof("voice") == "voice_prompt"


async def test_a_second_decode_call_sends_the_frames_of_the_first_again() -> None:
    frames: asyncio.Queue[CodeFrames | None] = asyncio.Queue()
    for number in range(2):
        frames.put_nowait(CodeFrames(first_frame=number))
    taken: list[CodeFrames | None] = []
    first = decode_requests(DecodeOpen(encoding=AUDIO_ENCODING_PCM_S16LE), frames, taken)
    assert (await anext(first)).open.encoding == AUDIO_ENCODING_PCM_S16LE
    assert (await anext(first)).frames.first_frame == 0
    await first.aclose()
    frames.put_nowait(None)
    second = [
        request async for request in decode_requests(DecodeOpen(encoding=AUDIO_ENCODING_PCM_S16LE), frames, taken)
    ]
    assert [request.frames.first_frame for request in second[1:]] == [0, 1]
