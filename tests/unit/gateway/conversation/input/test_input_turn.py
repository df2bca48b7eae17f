"""The input turn: what it begins with, how its audio is cut into recordings, and what a client drops or takes out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import numpy as np
import pytest

from chroma.v1 import reasoner_pb2
from chroma.v1.audio_pb2 import AUDIO_ENCODING_PCM_S16LE, AudioFormat
from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.access.usage import Usage
from gateway.audio.echo import PlayedSpeech
from gateway.conversation.backend import Backend
from gateway.conversation.input import input_turn
from gateway.conversation.input.input_audio import InputAudioBuffer
from gateway.conversation.input.input_turn import InputTurn, Recording, new_turn_id
from gateway.conversation.options import ConversationOptions
from gateway.conversation.output.event_queue import EventQueue
from gateway.conversation.output.events import Event, Opened, TranscriptDelta, UserTranscript
from gateway.conversation.transcripts.transcription import Transcriber
from gateway.conversation.turns.active_turns import ActiveTurns
from gateway.conversation.turns.session_context import SessionContext
from gateway.conversation.vad import TurnDetection
from gateway.pipeline.turn_input import NoInput
from gateway.pipeline.upstreams import UpstreamPool
from gateway.settings import GatewaySettings
from gateway.store.sessions import Session
from gateway.tasks import cancel
from services.common.errors import InvalidArgument, OutOfRange
from services.common.wire.pcm import Samples, encode_pcm
from tests.support.fake_calls import FakeCall, FakeUpstreamPool
from tests.support.fake_store import CALLER, FakeSessions, FakeVoices

_SETTINGS = GatewaySettings(
    reasoner="a:1", speech_gen="b:1", codec="c:1", redis_url="redis://d:1/0", max_input_chars=20, transcribe=True
)
_FORMAT = AudioFormat(encoding=AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=16_000)
_TENTH: Samples = np.full(1_600, 0.5, dtype=np.float32)


class Room:
    """An input turn, and what it works with."""

    def __init__(self) -> None:
        session = Session("tenant", "session-1", SessionConfig(voice_id="ada"), (), 0, 0, 0.0, 0.0)
        self.upstreams = FakeUpstreamPool()
        sessions = FakeSessions(session, _SETTINGS)
        pool, voices = cast(UpstreamPool, self.upstreams), FakeVoices(sessions)
        backend = Backend(pool, sessions, voices, _SETTINGS, Usage(None, _SETTINGS))
        self.delivered: asyncio.Queue[Event] = asyncio.Queue()
        self.events = EventQueue(Opened(session), self._deliver, _SETTINGS)
        self.transcriber = Transcriber(pool, _SETTINGS, self.events)
        context = SessionContext(session, sessions, voices, _SETTINGS)
        self.turns = ActiveTurns(context, self.events, self.transcriber, backend, CALLER)
        self.audio = InputAudioBuffer(_SETTINGS, PlayedSpeech(24_000))
        self.input = InputTurn(self.turns, self.events, self.audio, self.transcriber, _SETTINGS)

    async def _deliver(self, event: Event) -> None:
        self.delivered.put_nowait(event)

    def use(self, options: ConversationOptions) -> None:
        """Let the conversation have these options."""
        self.audio.set_options(options)
        self.input.options = options

    async def until(self, kind: type[Any]) -> Any:
        """The next event of this kind."""
        async with asyncio.timeout(30):
            while not isinstance(event := await self.delivered.get(), kind):
                pass
        return event

    async def think(self, opens: Callable[[reasoner_pb2.ThinkOpen], bool]) -> tuple[FakeCall, reasoner_pb2.ThinkOpen]:
        """The next Think call whose opening `opens` is true of."""
        async with asyncio.timeout(30):
            while True:
                call = await self.upstreams.reasoner.calls.get()
                opened = (await call.requests.get()).open
                if opens(opened):
                    return call, opened


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    """The input turn of a conversation with audio, whose events are delivered."""
    room = Room()
    room.use(ConversationOptions(input_format=_FORMAT))
    running = asyncio.create_task(room.events.run())
    yield room
    await room.turns.close()
    await room.transcriber.close()
    room.audio.close()
    await cancel(running)
    ours = [task for task in asyncio.all_tasks() if "gateway" in str(task.get_coro())]
    assert not ours, ours


def _parts(room: Room) -> list[str | int]:
    """The parts of the input turn: a text, or the samples at 16 kHz of a recording."""
    return [part if isinstance(part, str) else len(part) // 2 for part in room.input.source().parts]


async def test_the_first_input_begins_the_turn_and_further_input_joins_it(room: Room) -> None:
    assert not room.input.has_begun
    turn_id = room.input.add_text("look:")
    assert room.input.add_text("here") == turn_id == room.input.turn_id
    room.input.add_samples(_TENTH)
    assert (room.input.has_parts, room.input.has_whole_parts) == (True, True)
    assert room.input.open_audio_s == pytest.approx(0.1)
    assert _parts(room)[:2] == ["look:", "here"]


async def test_no_samples_begin_no_turn(room: Room) -> None:
    room.input.add_samples(_TENTH[:0])
    assert (room.input.has_begun, room.input.has_parts, room.input.open_audio_s) == (False, False, 0.0)
    assert room.input.end_audio() is None


async def test_audio_under_way_is_a_part_that_is_not_whole(room: Room) -> None:
    room.input.add_samples(_TENTH)
    assert (room.input.has_parts, room.input.has_whole_parts) == (True, False)


async def test_each_end_of_audio_is_a_recording_of_the_same_turn_with_an_id_of_its_own(room: Room) -> None:
    room.input.add_samples(_TENTH)
    first = room.input.end_audio()
    room.input.add_samples(_TENTH)
    second = room.input.end_audio()
    turn_id = room.input.turn_id
    assert (first, second) == (Recording(turn_id, "recording-1"), Recording(turn_id, "recording-2"))
    assert room.input.end_audio() is None, "no audio is under way"
    assert _parts(room) == [1_600, 1_600]


async def test_a_recording_is_transcribed_where_transcripts_are_wanted(room: Room) -> None:
    room.use(ConversationOptions(input_format=_FORMAT, transcribe_recordings=True))
    room.input.add_samples(_TENTH)
    recording = room.input.end_audio()
    assert recording is not None
    call, _ = await room.think(lambda opened: "speech" in opened.system_prompt)
    call.answer(reasoner_pb2.ThinkResponse(thought=reasoner_pb2.Thought(text="good day")))
    call.end()
    transcript = await room.until(UserTranscript)
    assert (transcript.text, transcript.recording_id) == ("good day", recording.recording_id)
    assert transcript.audio_s == pytest.approx(0.1)


async def test_a_conversation_without_replies_keeps_no_recording(room: Room) -> None:
    room.use(ConversationOptions(input_format=_FORMAT, replies=False))
    room.input.add_samples(_TENTH)
    assert room.input.end_audio() is not None
    assert not room.input.has_parts


async def test_a_message_goes_before_the_audio_under_way(room: Room) -> None:
    room.input.add_samples(_TENTH)
    recording = encode_pcm(_TENTH[:800], AUDIO_ENCODING_PCM_S16LE)
    await room.input.add_message(["look:", recording])
    room.input.add_samples(_TENTH)
    room.input.end_audio()
    assert _parts(room) == ["look:", 800, 3_200]


async def test_a_message_with_a_broken_recording_or_one_that_the_conversation_cannot_have_adds_nothing(
    room: Room,
) -> None:
    with pytest.raises(InvalidArgument):
        await room.input.add_message(["look:", b"\0"])
    room.use(ConversationOptions())
    with pytest.raises(InvalidArgument, match="expected no audio"):
        await room.input.add_message(["look:", b"\0\0"])
    assert not room.input.has_begun


async def test_dropped_audio_leaves_the_other_parts_and_a_turn_without_any_is_dropped(room: Room) -> None:
    room.input.add_text("look:")
    room.input.add_samples(_TENTH)
    turn_id = room.input.turn_id
    await room.input.drop_audio()
    assert (_parts(room), room.input.turn_id) == (["look:"], turn_id)
    await room.input.drop()
    room.input.add_samples(_TENTH)
    await room.input.drop_audio()
    assert not room.input.has_begun
    await room.input.drop_audio()


async def test_what_is_taken_is_a_turn_of_the_past_and_the_audio_under_way_goes_on(room: Room) -> None:
    room.input.add_text("one")
    turn_id = room.input.turn_id
    room.input.add_samples(_TENTH)
    assert room.input.copy().user == ("one",)
    taken = await room.input.take()
    assert (taken.turn_id, taken.user) == (turn_id, ("one",))
    assert (room.input.turn_id != turn_id, room.input.has_whole_parts) == (True, False)
    assert room.input.open_audio_s == pytest.approx(0.1)


async def test_input_beyond_its_limits_cannot_be_taken(room: Room) -> None:
    room.input.add_text("x" * 21)
    room.input.source().parts.append("x")
    with pytest.raises(OutOfRange):
        await room.input.take()


async def test_recordings_of_the_history_are_counted_with_the_next_input_once(room: Room) -> None:
    room.input.uncounted_s = 1.5
    first, second = NoInput(), NoInput()
    room.input.count_earlier(first)
    room.input.count_earlier(second)
    assert (first.take_uncounted_s(), second.take_uncounted_s()) == (1.5, 0.0)


async def test_words_on_which_two_passes_agree_are_told_while_the_user_speaks(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_turn, "_EARLY_S", 0.001)
    room.use(ConversationOptions(input_format=_FORMAT, turn_detection=TurnDetection(), transcribe_recordings=True))
    looking = asyncio.create_task(room.input.transcribe_speech())
    for words in ("good day to", "good day to you"):
        room.input.add_samples(np.full(16_000 * 3, 0.5, dtype=np.float32))
        call, _ = await room.think(lambda opened: "speech" in opened.system_prompt)
        call.answer(reasoner_pb2.ThinkResponse(thought=reasoner_pb2.Thought(text=words)))
        call.end()
        if words == "good day to":
            async with asyncio.timeout(30):
                while room.input._early.last != words:  # noqa: ASYNC110
                    await asyncio.sleep(0)
    delta = await room.until(TranscriptDelta)
    assert (delta.recording_id, delta.text, delta.is_early) == ("recording-1", "good day", True)
    await cancel(looking)


def test_each_turn_has_a_new_id() -> None:
    assert len({new_turn_id() for _ in range(100)}) == 100
