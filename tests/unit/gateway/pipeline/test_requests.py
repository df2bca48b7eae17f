"""The request streams of a turn's calls."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE, CodeFrames
from chroma.v1.codec_pb2 import DecodeOpen
from chroma.v1.dialogue_pb2 import SessionConfig
from chroma.v1.generation_pb2 import Sampling
from chroma.v1.reasoner_pb2 import PRIORITY_LOW, PRIORITY_NORMAL, REPLY_SOURCE_GENERATED, REPLY_SOURCE_GIVEN, Thought
from chroma.v1.speech_gen_pb2 import SpeakOpen, VoicePrompt
from gateway.pipeline.requests import Ledger, TurnPlan, cache_scope, decode_requests, speak_requests, think_requests
from gateway.pipeline.turn_input import ForcedReply, UserInput
from gateway.store.records import TurnRecord
from tests.support.running_turn import VOICE

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
    tenant="north",
)


async def test_think_opens_with_the_history_and_room_for_the_longest_reply_then_passes_the_input_on() -> None:
    source = UserInput(None, max_audio_s=1, max_chars=100)
    source.add_text("question")
    source.commit()
    past = TurnRecord("turn-1", user=("hello",), token_ids=(3,), texts=("Hi",), heard_tokens=1)
    asked = asyncio.Event()
    requests = think_requests(_PLAN, [past], source, asked)
    opened, text, commit = [await anext(requests) for _ in range(3)]
    assert not asked.is_set(), "the commit may not have been sent"
    assert [request async for request in requests] == []
    assert asked.is_set()
    assert (opened.open.session_id, opened.open.system_prompt) == ("session", "be brief")
    assert [message.role for message in opened.open.history] == [message.role for message in past.messages()]
    assert opened.open.max_thoughts == 13  # a thought for every two frames, rounded up
    assert opened.open.reply_source == REPLY_SOURCE_GENERATED
    assert (text.text, commit.HasField("commit")) == ("question", True)


async def test_think_names_a_scope_that_is_the_tenants_alone_and_keeps_only_what_belongs_to_a_session() -> None:
    opened = [
        (await anext(think_requests(plan, [], UserInput(None, max_audio_s=1, max_chars=100), asyncio.Event()))).open
        for plan in (_PLAN, replace(_PLAN, tenant="south"), replace(_PLAN, tenant=""), replace(_PLAN, session_id=""))
    ]
    scopes = [message.cache_scope for message in opened]
    assert scopes[0] == scopes[3] == cache_scope("north")
    assert (len({*scopes}), scopes[2]) == (3, "")
    assert not any("north" in scope for scope in scopes)
    assert [message.keep for message in opened] == [True, True, True, False]


async def test_think_says_whether_replies_go_before_the_turn() -> None:
    opened = [
        (await anext(think_requests(plan, [], UserInput(None, max_audio_s=1, max_chars=100), asyncio.Event()))).open
        for plan in (_PLAN, replace(_PLAN, low_priority=True))
    ]
    assert [message.priority for message in opened] == [PRIORITY_NORMAL, PRIORITY_LOW]


async def test_think_lets_thoughts_wait_for_each_other_only_where_the_speech_has_the_pace_of_listening() -> None:
    spoken = replace(_PLAN, voice=VOICE)
    opened = [
        (await anext(think_requests(plan, [], UserInput(None, max_audio_s=1, max_chars=100), asyncio.Event()))).open
        for plan in (spoken, replace(spoken, max_lead_s=None), replace(spoken, max_lead_s=0.0), _PLAN)
    ]
    assert [message.max_hold_s > 0 for message in opened] == [True, True, False, False]


async def test_think_says_that_the_client_gives_the_reply() -> None:
    source = ForcedReply(max_chars=100)
    source.add_text("Good morning", end=True)
    requests = think_requests(replace(_PLAN, system_prompt=None), [], source, asked := asyncio.Event())
    opened, commit = [await anext(requests) for _ in range(2)]
    assert not asked.is_set()
    text = await anext(requests)
    assert asked.is_set(), "the calls for speech need not wait for the text"
    assert opened.open.reply_source == REPLY_SOURCE_GIVEN
    assert not opened.open.HasField("system_prompt")
    assert commit.HasField("commit")
    assert text.given_text == "Good morning"


async def test_speak_takes_no_thought_before_it_is_admitted() -> None:
    thoughts: asyncio.Queue[Thought | None] = asyncio.Queue()
    thoughts.put_nowait(Thought(index=0))
    admitted = asyncio.get_running_loop().create_future()
    opened = SpeakOpen(voice_fingerprint="fingerprint", max_frames=25)
    ledger = Ledger()
    requests = speak_requests(opened, admitted, asyncio.Event(), thoughts, [], ledger)
    assert (await anext(requests)).open == opened
    assert ledger.owes(), "the admission"
    following = asyncio.ensure_future(anext(requests))
    await asyncio.sleep(0)
    assert thoughts.qsize() == 1
    admitted.set_result(False)
    assert (await following).thought.index == 0
    await requests.aclose()


async def test_speak_sends_no_thought_after_the_speech_has_ended() -> None:
    thoughts: asyncio.Queue[Thought | None] = asyncio.Queue()
    admitted, spoken = _admitted(), _set()
    thoughts.put_nowait(Thought(index=0))
    opened = SpeakOpen(voice_prompt=VoicePrompt())
    requests = [request async for request in speak_requests(opened, admitted, spoken, thoughts, [], Ledger())]
    assert [request.WhichOneof("request") for request in requests] == ["open"]
    assert requests[0].open.WhichOneof("voice") == "voice_prompt"


async def test_a_second_decode_call_sends_the_frames_of_the_first_again() -> None:
    frames: asyncio.Queue[CodeFrames | None] = asyncio.Queue()
    for number in range(2):
        frames.put_nowait(CodeFrames(first_frame=number))
    taken: list[CodeFrames | None] = []
    opened = DecodeOpen(encoding=AUDIO_ENCODING_PCM_S16LE)
    first = decode_requests(opened, frames, taken, Ledger())
    assert (await anext(first)).open.encoding == AUDIO_ENCODING_PCM_S16LE
    assert (await anext(first)).frames.first_frame == 0
    await first.aclose()
    frames.put_nowait(None)
    second = [request async for request in decode_requests(opened, frames, taken, Ledger())]
    assert [request.frames.first_frame for request in second[1:]] == [0, 1]


def _queue(*thoughts: Thought | None) -> asyncio.Queue[Thought | None]:
    queue: asyncio.Queue[Thought | None] = asyncio.Queue()
    for thought in thoughts:
        queue.put_nowait(thought)
    return queue


def _admitted(*, takes_groups: bool = False) -> asyncio.Future[bool]:
    admitted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    admitted.set_result(takes_groups)
    return admitted


def _set() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


async def test_thoughts_that_wait_share_a_message_where_the_replica_takes_groups() -> None:
    ledger, thoughts = Ledger(), _queue(*(Thought(index=index) for index in range(18)), None)
    opened = SpeakOpen()
    requests = speak_requests(opened, _admitted(takes_groups=True), asyncio.Event(), thoughts, [], ledger)
    sent = [request async for request in requests][1:]
    assert [[thought.index for thought in request.thoughts.thoughts] for request in sent] == [
        list(range(16)),
        [16, 17],
    ]
    assert ledger.given == 1 + 2 * 17, "the admission, and the frames of all thoughts but the newest"
    assert ledger.ended


async def test_a_thought_that_waits_alone_is_sent_alone() -> None:
    thoughts = _queue(Thought(index=0))
    requests = speak_requests(SpeakOpen(), _admitted(takes_groups=True), asyncio.Event(), thoughts, [], Ledger())
    await anext(requests)
    assert (await anext(requests)).thought.index == 0
    await requests.aclose()


async def test_a_second_speak_call_sends_the_thoughts_again_that_made_no_frame() -> None:
    taken: list[Thought | None] = []
    thoughts = _queue(Thought(index=0), Thought(index=1))
    first = speak_requests(SpeakOpen(), _admitted(), asyncio.Event(), thoughts, taken, Ledger())
    for _ in range(3):
        await anext(first)
    await first.aclose()
    thoughts.put_nowait(None)
    second = [
        request
        async for request in speak_requests(SpeakOpen(), _admitted(), asyncio.Event(), thoughts, taken, Ledger())
    ]
    assert [request.thought.index for request in second[1:]] == [0, 1]


async def test_thoughts_after_the_first_frame_are_not_kept() -> None:
    taken: list[Thought | None] = []
    ledger = Ledger()
    requests = speak_requests(
        SpeakOpen(), _admitted(), asyncio.Event(), _queue(*(Thought(index=index) for index in range(3))), taken, ledger
    )
    await anext(requests)
    await anext(requests)
    ledger.answered = 3  # the admission and two frames
    assert [(await anext(requests)).thought.index for _ in range(2)] == [1, 2]
    assert [thought.index for thought in taken if thought] == [0]
    await requests.aclose()


async def test_a_speech_generator_owes_its_admission_and_the_frames_of_all_thoughts_but_the_newest() -> None:
    ledger = Ledger()
    thoughts = _queue(Thought(index=0), Thought(index=1), Thought(index=2, last=True))
    requests = speak_requests(SpeakOpen(), _admitted(), asyncio.Event(), thoughts, [], ledger)
    assert not ledger.owes()
    await anext(requests)
    assert ledger.owes(), "the admission"
    ledger.answered = 1
    await anext(requests)
    assert not ledger.owes(), "it may wait for a second thought"
    await anext(requests)
    assert ledger.owes()
    ledger.answered = 3
    assert not ledger.owes(), "the reasoner owes the next thought"
    await anext(requests)
    ledger.answered = 5
    assert not ledger.owes()
    thoughts.put_nowait(None)
    with pytest.raises(StopAsyncIteration):
        await anext(requests)
    assert ledger.owes(), "the end of the speech"
    ledger.settled = True
    assert not ledger.owes()


async def test_a_codec_owes_the_frames_that_it_was_given_and_the_end_after_the_last_one() -> None:
    frames: asyncio.Queue[CodeFrames | None] = asyncio.Queue()
    frames.put_nowait(CodeFrames(codes=[1] * 24))
    noticed: list[bool] = []
    ledger = Ledger()
    ledger.notify = lambda: noticed.append(ledger.owes())
    requests = decode_requests(DecodeOpen(), frames, [], ledger)
    await anext(requests)
    assert not ledger.owes()
    await anext(requests)
    assert (ledger.given, noticed) == (3, [True])
    ledger.answered = 3
    assert not ledger.owes()
    frames.put_nowait(None)
    with pytest.raises(StopAsyncIteration):
        await anext(requests)
    assert noticed == [True, True], "the end of the sound is due"
