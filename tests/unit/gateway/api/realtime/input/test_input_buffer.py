"""The input audio buffer: what it becomes, and what the client is told of it."""

from __future__ import annotations

import pytest

from gateway.api.errors import BadParameter
from gateway.api.realtime.input.input_buffer import InputBuffer
from gateway.api.realtime.input.microphone import Microphone
from gateway.conversation.output.events import SpeechStarted, SpeechStopped, TranscriptDelta, UserTranscript
from services.common.errors import Unavailable
from tests.support.realtime_room import RealtimeRoom, audio_event

_COMMITTED = [
    "input_audio_buffer.committed",
    "conversation.item.added",
    "conversation.item.created",
    "conversation.item.done",
]
_TRANSCRIPT = "conversation.item.input_audio_transcription"


@pytest.fixture
def buffer(room: RealtimeRoom) -> InputBuffer:
    """The input audio buffer of the room."""
    return InputBuffer(room.context, Microphone(room.conversation, max_s=1.0))


async def test_a_commit_makes_one_item_of_the_audio(room: RealtimeRoom, buffer: InputBuffer) -> None:
    await buffer.append(audio_event(60))
    await buffer.append(audio_event(60))
    await buffer.commit({})
    assert room.told == _COMMITTED
    item_id = room.client[0]["item_id"]
    assert room.items.get(item_id, "retrieve").recording_id == "recording-1"
    assert room.last()["item"]["content"] == [{"type": "input_audio", "transcript": None}]
    assert (room.conversation.has_input, room.conversation.open_audio_s) == (True, 0.0)


async def test_a_commit_of_less_than_100_ms_is_refused_and_keeps_the_audio(
    room: RealtimeRoom, buffer: InputBuffer
) -> None:
    await buffer.append(audio_event(80))
    with pytest.raises(BadParameter, match="got 80 ms") as refused:
        await buffer.commit({})
    assert refused.value.code == "input_audio_buffer_commit_empty"
    await buffer.append(audio_event(20))
    await buffer.commit({})
    assert room.told == _COMMITTED


async def test_a_clear_drops_the_audio_and_what_the_microphone_kept(room: RealtimeRoom, buffer: InputBuffer) -> None:
    await buffer.append(audio_event(200))
    await buffer.microphone.push(bytes(2 * 24 * 200))
    await buffer.clear({})
    assert room.told == ["input_audio_buffer.cleared"]
    assert not room.conversation.has_input
    with pytest.raises(BadParameter, match="got 0 ms"):
        await buffer.commit({})


async def test_audio_that_is_no_base64_names_its_field(room: RealtimeRoom, buffer: InputBuffer) -> None:
    for audio in (None, 7, "not base64!"):
        with pytest.raises(BadParameter) as refused:
            await buffer.append({"audio": audio})
        assert refused.value.param == "audio"
    assert not room.conversation.has_input


async def test_detected_speech_is_announced_under_the_id_that_its_item_gets(
    room: RealtimeRoom, buffer: InputBuffer
) -> None:
    await buffer.started(SpeechStarted("turn-1", 320))
    await buffer.stopped(SpeechStopped("turn-1", 1_500, "recording-1"))
    assert room.told == ["input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped", *_COMMITTED]
    started, stopped, committed = room.client[:3]
    assert (started["audio_start_ms"], stopped["audio_end_ms"]) == (320, 1_500)
    assert started["item_id"] == stopped["item_id"] == committed["item_id"]
    await buffer.started(SpeechStarted("turn-1", 2_000))
    assert room.last()["item_id"] != started["item_id"], "a second recording of a turn is another item"


async def test_a_transcript_goes_to_the_item_of_its_recording(room: RealtimeRoom, buffer: InputBuffer) -> None:
    await buffer.stopped(SpeechStopped("turn-1", 1_500, "recording-1"))
    item_id = room.last()["item"]["id"]
    room.client.clear()
    await buffer.transcribed(TranscriptDelta("recording-1", "good "))
    await buffer.transcribed(UserTranscript("turn-1", "good day", recording_id="recording-1", audio_s=1.2345))
    assert room.told == [f"{_TRANSCRIPT}.delta", f"{_TRANSCRIPT}.completed"]
    assert {event["item_id"] for event in room.client} == {item_id}
    assert room.last()["usage"] == {"type": "duration", "seconds": 1.234}
    assert room.items.get(item_id, "retrieve").content == [{"type": "input_audio", "transcript": "good day"}]


async def test_an_early_piece_of_a_transcript_goes_to_the_recording_under_way_alone(
    room: RealtimeRoom, buffer: InputBuffer
) -> None:
    await buffer.transcribed(TranscriptDelta("recording-1", "lost", is_early=True))
    assert room.told == []
    await buffer.started(SpeechStarted("turn-1", 0))
    await buffer.transcribed(TranscriptDelta("recording-1", "good", is_early=True))
    assert (room.last()["type"], room.last()["delta"]) == (f"{_TRANSCRIPT}.delta", "good")
    assert room.last()["item_id"] == room.client[0]["item_id"]


async def test_a_transcript_that_failed_says_why_and_one_of_a_deleted_item_is_dropped(
    room: RealtimeRoom, buffer: InputBuffer
) -> None:
    await buffer.stopped(SpeechStopped("turn-1", 1_500, "recording-1"))
    item = room.items.of_recording("recording-1")
    assert item is not None
    await buffer.transcribed(UserTranscript("turn-1", error=Unavailable("away"), recording_id="recording-1"))
    assert room.last()["type"] == f"{_TRANSCRIPT}.failed"
    assert (room.last()["error"]["message"], room.last()["error"]["param"]) == ("away", None)
    room.items.drop(item)
    room.client.clear()
    await buffer.transcribed(UserTranscript("turn-1", "good day", recording_id="recording-1"))
    assert room.told == []
