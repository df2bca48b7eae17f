from __future__ import annotations

import pytest

from chroma_voice import AlreadyExists, Client, InvalidArgument, NotFound, Sampling, SessionSettings, Unavailable
from tests.support.fake_gateway import FakeGateway, serving


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


async def test_a_key_goes_with_every_call(gateway: FakeGateway) -> None:
    async with serving(gateway) as address, Client(address, api_key="cv_secret") as client:
        await client.create_voice("ann", audio_file=b"x", transcript="x", consent="x")
        async with client.conversation(voice="ann"):
            pass
    assert [metadata["authorization"] for metadata in gateway.metadata] == ["Bearer cv_secret"] * 2


async def test_each_call_belongs_to_the_trace_that_the_caller_is_in_then(gateway: FakeGateway) -> None:
    traces = iter(["00-a", "", "00-c"])
    async with serving(gateway) as address, Client(address, traceparent=lambda: next(traces)) as client:
        await client.create_voice("ann", audio_file=b"x", transcript="x", consent="x")
        for _ in range(2):
            async with client.conversation(voice="ann"):
                pass
    assert [metadata.get("traceparent") for metadata in gateway.metadata] == ["00-a", None, "00-c"]


async def test_a_key_is_not_sent_in_plain_text_to_another_machine_unless_told_so() -> None:
    for address in ("voice.example.com:443", "10.0.0.1:50051"):
        with pytest.raises(InvalidArgument, match=f"to {address} in plain text") as refused:
            Client(address, api_key="cv_secret")
        assert "cv_secret" not in str(refused.value)
        async with Client(address, api_key="cv_secret", tls=True):
            pass
        async with Client(address, api_key="cv_secret", allow_plaintext_key=True):
            pass
        async with Client(address):
            pass


@pytest.mark.parametrize("key", ["cv secret", "cv_secret\n", "cv_secrét"])
async def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(InvalidArgument, match="visible ASCII") as refused:
        Client("localhost:1", api_key=key)
    assert "cv" not in str(refused.value)


async def test_a_created_voice_whose_answer_was_lost_is_returned_by_the_next_attempt(gateway: FakeGateway) -> None:
    gateway.lost_answers = 1
    async with serving(gateway) as address, Client(address) as client:
        created = await client.create_voice("ann", audio_file=b"x", transcript="x", consent="x")
        assert created.voice_id == "ann"
        with pytest.raises(AlreadyExists):
            await client.create_voice("ann", audio_file=b"x", transcript="x", consent="x")
    *attempts, other = [metadata["chroma-idempotency-key"] for metadata in gateway.metadata]
    assert len(attempts) == 2
    assert len(set(attempts)) == 1
    assert other not in attempts
