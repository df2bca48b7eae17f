"""The responses of one connection: what the client asks for, and the events of their turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, cast

import pytest

from gateway.access.limits import LimitName
from gateway.access.quotas import Quota
from gateway.api.errors import BadParameter
from gateway.api.realtime.items.items import response_id
from gateway.api.realtime.items.playback import Playback
from gateway.api.realtime.responses.out_of_band import Deliver, OutOfBand
from gateway.api.realtime.responses.response_input import ResponseInput
from gateway.api.realtime.responses.responses import Responses
from gateway.conversation.conversation import Conversation
from gateway.conversation.output.events import EndsSoon, Outcome, TurnDone, TurnStarted
from gateway.pipeline.deltas import AudioDelta, TextDelta
from gateway.tasks import cancel
from tests.support.fake_store import CALLER
from tests.support.realtime_room import SETTINGS, RealtimeRoom, message
from tests.support.virtual_time import virtual_time


@pytest.fixture
async def responses(room: RealtimeRoom) -> AsyncIterator[Responses]:
    """The responses of the room's connection."""
    playback = Playback(None, room.items, room.context.events, room.context.send)

    async def read_parts(item: Any) -> list[str | bytes]:
        return [part.words for part in item.content]

    def counted(turn_id: str, quotas: list[Quota]) -> None:
        responses.counted(turn_id, quotas)

    out_of_band = OutOfBand(room.backend, CALLER, counted)
    response_input = ResponseInput(room.items, room.conversation, read_parts)
    responses = Responses(room.context, playback, response_input, out_of_band)
    yield responses
    await cancel(*out_of_band._running)


async def _create(responses: Responses, **wanted: Any) -> None:
    await responses.create({"type": "response.create", "response": wanted})


async def _started(room: RealtimeRoom) -> str:
    """The turn that starts next, as the conversation tells it."""
    while not isinstance(event := await room.events.get(), TurnStarted):
        pass
    return event.turn_id


async def test_a_response_has_its_own_settings_and_metadata_and_the_next_one_the_sessions(
    room: RealtimeRoom, responses: Responses
) -> None:
    room.conversation.add_text("hello")
    await _create(responses, instructions="Rhyme.", output_modalities=["text"], metadata={"a": "b"})
    opened = (await (await room.upstreams.reasoner.calls.get()).requests.get()).open
    assert opened.system_prompt == "Rhyme."
    assert not room.conversation.options.text_only
    await responses.deliver(TurnStarted("turn-1"))
    assert (room.last()["type"], room.last()["response"]["metadata"]) == ("response.created", {"a": "b"})
    assert room.last()["response"]["output_modalities"] == ["text"]
    await responses.deliver(TurnStarted("turn-2"))
    assert (room.last()["response"]["metadata"], room.last()["response"]["output_modalities"]) == (None, ["audio"])


async def test_a_second_response_is_refused_while_one_runs(room: RealtimeRoom, responses: Responses) -> None:
    await _create(responses)
    with pytest.raises(BadParameter) as refused:
        await _create(responses)
    assert refused.value.code == "conversation_already_has_active_response"


async def test_a_transcription_session_has_no_responses(room: RealtimeRoom, responses: Responses) -> None:
    room.settings.session = replace(room.settings.session, type="transcription")
    with pytest.raises(BadParameter) as refused:
        await _create(responses)
    assert refused.value.code == "response_not_in_session"
    assert not room.conversation.is_replying


async def test_an_input_of_its_own_takes_the_place_of_the_history(room: RealtimeRoom, responses: Responses) -> None:
    await room.conversation.inject_reply("past")
    await _create(responses, input=[message("system", "Be kind."), message("user", "now")])
    opened = (await (await room.upstreams.reasoner.calls.get()).requests.get()).open
    assert [part.text for turn in opened.history for part in turn.parts] == ["now"]
    assert opened.system_prompt == "Be brief.\n\nBe kind."


async def test_a_response_outside_the_conversation_is_cancelled_by_its_id(
    room: RealtimeRoom, responses: Responses
) -> None:
    await _create(responses, conversation="none")
    outside = (await room.until("response.created"))["response"]
    assert outside["conversation_id"] is None
    assert not room.conversation.is_replying
    await responses.cancel({"response_id": outside["id"]})
    assert (await room.until("response.done"))["response"]["status"] == "cancelled"
    assert room.items.last_id is None


class Outside(OutOfBand):
    """Responses outside the conversation whose events the test makes."""

    deliver: Deliver

    def begin(self, config: Any, options: Any, turns: Any, deliver: Deliver) -> Conversation:
        """Keep the way to the client."""
        self.deliver = deliver
        return cast(Conversation, None)


async def test_a_response_outside_the_conversation_counts_as_activity(room: RealtimeRoom) -> None:
    outside = Outside(room.backend, CALLER, lambda turn_id, quotas: None)
    playback = Playback(None, room.items, room.context.events, room.context.send)
    responses = Responses(room.context, playback, cast(ResponseInput, None), outside)
    await _create(responses, conversation="none")
    await room.events.get()  # the conversation is open
    with virtual_time():
        await outside.deliver(TurnStarted("turn-1"))
        for _ in range(5):
            await asyncio.sleep(0.7 * SETTINGS.idle_limit_s)
            await outside.deliver(TextDelta("turn-1", "Hi", 0))
            assert room.events.empty(), "the client is told before an idle conversation ends"
        await asyncio.sleep(SETTINGS.idle_limit_s)
        told = room.events.get_nowait()
    assert isinstance(told, EndsSoon)
    assert told.is_idle


async def test_a_cancel_without_an_active_response_is_an_error(room: RealtimeRoom, responses: Responses) -> None:
    with pytest.raises(BadParameter) as refused:
        await responses.cancel({})
    assert refused.value.code == "response_cancel_not_active"
    await _create(responses)
    await responses.deliver(TurnStarted(turn_id := await _started(room)))
    with pytest.raises(BadParameter):
        await responses.cancel({"response_id": "resp_other"})
    assert room.conversation.is_replying
    await responses.cancel({"response_id": response_id(turn_id)})
    assert not room.conversation.is_replying


async def test_a_client_that_plays_itself_has_no_output_buffer_to_clear(responses: Responses) -> None:
    with pytest.raises(BadParameter, match="there is no output audio buffer"):
        await responses.clear({})


async def test_the_events_of_a_turn_are_those_of_its_response(room: RealtimeRoom, responses: Responses) -> None:
    await responses.deliver(TurnStarted("turn-1"))
    await responses.deliver(TextDelta("turn-1", "Hi", 0))
    await responses.deliver(AudioDelta("turn-1", 0, 1, b"\0\0"))
    await responses.deliver(TurnDone("turn-1", Outcome.COMPLETED, text="Hi", heard_text="Hi"))
    assert room.told[0] == "response.created"
    assert {"response.output_audio_transcript.delta", "response.output_audio.delta"} <= set(room.told)
    assert (room.last()["type"], room.last()["response"]["status"]) == ("response.done", "completed")
    assert room.items.of_turn("turn-1", "assistant")


async def test_the_limits_are_told_once_when_the_turn_was_counted(room: RealtimeRoom, responses: Responses) -> None:
    quota = Quota(LimitName.TURNS_PER_MINUTE, 10, 1, 60.0)
    await responses.deliver(TurnStarted("turn-1"))
    assert "rate_limits.updated" not in room.told
    responses.counted("turn-1", [quota])
    await responses.deliver(TextDelta("turn-1", "Hi", 0))
    await responses.deliver(TextDelta("turn-1", "Hi", 160))
    assert room.told.count("rate_limits.updated") == 1
    limits = next(event["rate_limits"] for event in room.client if event["type"] == "rate_limits.updated")
    assert (limits[0]["name"], limits[0]["limit"]) == ("requests", 10)
