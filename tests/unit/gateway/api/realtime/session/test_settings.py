"""The settings of one connection, and the stored session that follows them."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.api.errors import BadParameter
from gateway.api.realtime.items.items import Item
from gateway.api.realtime.session.session import Format
from gateway.api.realtime.session.update import SessionIn
from services.common.errors import Unavailable
from tests.support.realtime_room import RealtimeRoom


def _session(**fields: Any) -> SessionIn:
    return SessionIn.model_validate(fields)


async def test_a_change_reaches_the_conversation_and_the_stored_session(room: RealtimeRoom) -> None:
    await room.settings.update(_session(instructions="Rhyme.", output_modalities=["text"]))
    assert room.conversation.options.text_only
    assert room.conversation._context.session.config.system_prompt == "Rhyme."
    assert room.settings.session.instructions == "Rhyme."


async def test_a_change_that_the_store_does_not_take_is_undone(room: RealtimeRoom) -> None:
    room.sessions.failure = Unavailable("away")
    before = room.settings.session
    with pytest.raises(Unavailable):
        await room.settings.update(_session(instructions="Rhyme.", output_modalities=["text"]))
    assert room.settings.session is before
    assert not room.conversation.options.text_only


async def test_the_texts_of_system_items_follow_the_instructions(room: RealtimeRoom) -> None:
    room.items.add(Item("s", "system", [{"type": "input_text", "text": "Speak French."}]))
    await room.settings.store()
    assert room.conversation._context.session.config.system_prompt == "Be brief.\n\nSpeak French."


async def test_the_settings_of_a_response_change_nothing_for_the_session(room: RealtimeRoom) -> None:
    session, config = await room.settings.of_response(_session(instructions="Rhyme."), ["Be kind."])
    assert (session.instructions, config.system_prompt) == ("Rhyme.", "Rhyme.\n\nBe kind.")
    assert room.settings.changes(config)
    assert room.settings.session.instructions == "Be brief."
    _, same = await room.settings.of_response(_session())
    assert not room.settings.changes(same)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"instructions": "x" * 100_000}, "session.instructions"),
        ({"voice": "unknown"}, "session.voice"),
        ({"audio": {"output": {"voice": "unknown"}}}, "session.audio.output.voice"),
    ],
)
async def test_a_setting_that_is_wrong_is_named_and_changes_nothing(
    room: RealtimeRoom, fields: dict[str, Any], param: str
) -> None:
    before = room.settings.session
    with pytest.raises(BadParameter) as refused:
        await room.settings.update(_session(**fields))
    assert refused.value.param == param
    assert room.settings.session is before


async def test_the_audio_format_cannot_change_within_the_users_turn(room: RealtimeRoom) -> None:
    await room.conversation.append_audio(bytes(480))
    with pytest.raises(BadParameter) as refused:
        await room.settings.update(_session(audio={"input": {"format": {"type": "audio/pcmu"}}}))
    assert refused.value.param == "session.audio.input.format"


async def test_a_transport_with_a_format_of_its_own_keeps_it(room: RealtimeRoom) -> None:
    room.settings.fixed_format = Format()
    await room.settings.update(_session(audio={"input": {"format": {"type": "audio/pcmu"}}}))
    assert room.settings.session.input_format == Format()


async def test_instructions_of_just_the_limit_are_taken(room: RealtimeRoom) -> None:
    limit = room.backend.settings.max_prompt_chars
    await room.settings.update(_session(instructions="x" * limit))
    with pytest.raises(BadParameter, match=f"at most {limit} characters, got {limit + 1}") as raised:
        await room.settings.update(_session(instructions="x" * (limit + 1)))
    assert raised.value.param == "session.instructions"
