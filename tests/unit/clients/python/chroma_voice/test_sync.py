from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from chroma_voice import InvalidArgument, NotFound, SessionSettings, SyncClient, TurnDone
from tests.support.fake_gateway import SAMPLES_PER_DELTA, WORDS, FakeGateway, serving


async def with_client(gateway: FakeGateway, work: Callable[[SyncClient], None]) -> None:
    """Run blocking `work` on a thread, as a program without asyncio would."""

    def run(address: str) -> None:
        with SyncClient(address) as client:
            work(client)

    async with serving(gateway) as address:
        await asyncio.to_thread(run, address)


async def test_a_turn_without_asyncio(gateway: FakeGateway) -> None:
    def work(client: SyncClient) -> None:
        with client.conversation(voice="reader", input_rate_hz=16_000) as talk:
            talk.send_audio(bytes(320))
            talk.send_text("Hello?")
            talk.commit()
            reply = talk.reply()
            assert "".join(reply.text()) == "".join(WORDS)
            assert len(b"".join(reply.audio())) == 2 * SAMPLES_PER_DELTA * len(WORDS)
            *_, last = reply
            assert last == reply.done()
            assert isinstance(last, TurnDone)
            talk.say("Good-bye.")
            assert talk.reply().done().outcome == "completed"

    await with_client(gateway, work)
    await gateway.finished.wait()
    assert gateway.ended == "closed"


async def test_voices_and_sessions_without_asyncio(gateway: FakeGateway) -> None:
    def work(client: SyncClient) -> None:
        created = client.create_voice("ann", audio_file=bytes(420), transcript="Hello.", consent="Ann")
        assert client.get_voice("ann") == created
        assert [voice.voice_id for voice in client.list_voices()] == ["ann", "reader"]
        client.delete_voice("ann")
        with pytest.raises(NotFound):
            client.get_voice("ann")
        session = client.create_session(SessionSettings("reader"))
        assert client.update_session(session.session_id, SessionSettings(system_prompt="Be brief.")).voice == "reader"
        assert client.get_session(session.session_id).system_prompt == "Be brief."
        client.delete_session(session.session_id)

    await with_client(gateway, work)


def test_a_key_is_not_sent_in_plain_text_to_another_machine_and_no_thread_stays() -> None:
    threads = threading.active_count()
    with pytest.raises(InvalidArgument, match="in plain text"):
        SyncClient("voice.example.com:443", api_key="cv_secret")
    assert threading.active_count() == threads
    with SyncClient("voice.example.com:443", api_key="cv_secret", allow_plaintext_key=True):
        pass
