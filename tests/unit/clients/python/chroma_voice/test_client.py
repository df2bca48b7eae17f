from __future__ import annotations

import pytest

from chroma_voice import AlreadyExists, Client, NotFound, Sampling, SessionSettings, Unavailable
from tests.support.fake_gateway import FakeGateway


async def test_created_voice_is_found_again_with_all_it_was_given(client: Client) -> None:
    created = await client.create_voice(
        "ann", audio_file=bytes(420), transcript="Hello.", consent="Ann, in writing", display_name="Ann"
    )
    assert created == await client.get_voice("ann")
    assert (created.voice_id, created.display_name, created.transcript) == ("ann", "Ann", "Hello.")
    assert (created.consent, created.duration_s, created.created.year) == ("Ann, in writing", 4.2, 2023)


async def test_voices_are_listed_over_all_pages(client: Client, gateway: FakeGateway) -> None:
    for voice_id in ("a", "b", "c", "d"):
        await client.create_voice(voice_id, audio_file=b"x", transcript="x", consent="x")
    assert gateway.page == 2
    assert [voice.voice_id async for voice in client.list_voices()] == ["a", "b", "c", "d", "reader"]


async def test_taken_voice_id_raises_already_exists(client: Client) -> None:
    with pytest.raises(AlreadyExists, match="voice reader exists") as caught:
        await client.create_voice("reader", audio_file=b"x", transcript="x", consent="x")
    assert caught.value.status == "ALREADY_EXISTS"


async def test_deleted_voice_is_not_found(client: Client) -> None:
    await client.delete_voice("reader")
    with pytest.raises(NotFound, match="no voice reader"):
        await client.get_voice("reader")
    with pytest.raises(NotFound):
        await client.delete_voice("reader")


async def test_session_keeps_unset_settings_when_updated(client: Client) -> None:
    settings = SessionSettings("reader", system_prompt="", sampling=Sampling(seed=7), max_reply_s=3.0)
    session = await client.create_session(settings)
    assert (session.voice, session.system_prompt, session.entries) == ("reader", "", ())
    updated = await client.update_session(session.session_id, SessionSettings(system_prompt="Be brief."))
    assert (updated.voice, updated.system_prompt) == ("reader", "Be brief.")
    assert await client.get_session(session.session_id) == updated
    await client.delete_session(session.session_id)
    with pytest.raises(NotFound):
        await client.get_session(session.session_id)


async def test_absent_gateway_raises_unavailable() -> None:
    async with Client("127.0.0.1:1", attempts=1) as client:
        with pytest.raises(Unavailable):
            await client.get_voice("reader")
