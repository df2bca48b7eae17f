"""Erasure on real processes: no file and no cache holds what was deleted."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import pytest
from redis.asyncio import Redis

from chroma.v1 import checkpoint_pb2, checkpoint_pb2_grpc
from chroma.v1.speech_gen_pb2 import SpeakOpen, SpeakRequest
from chroma.v1.speech_gen_pb2_grpc import SpeechGenServiceStub
from services.common.wire.voice_fingerprint import voice_fingerprint
from tests.support.local_stack import VOICE_FILE, VOICE_TRANSCRIPT, LocalStack, ask

WORDS = "Zanzibar quilts are woven on Tuesdays."


def holds(folder: Path, *values: bytes) -> bool:
    return any(value in file.read_bytes() for file in folder.rglob("*.aof") for value in values)


async def gone_from(folder: Path, *values: bytes) -> None:
    """Wait until no file of the store holds any of these values: old files are unlinked in the background."""
    async with asyncio.timeout(30):
        while holds(folder, *values):  # noqa: ASYNC110  # the store sets no event of ours
            await asyncio.sleep(0.05)


async def is_cached(stack: LocalStack, codes: bytes, ids: bytes) -> bool:
    """Whether the speech generator has the voice, without being told its codes."""
    async with grpc.aio.insecure_channel(stack.endpoints.speech_gen) as channel:
        told: Any = await checkpoint_pb2_grpc.CheckpointServiceStub(channel).GetCheckpoint(
            checkpoint_pb2.GetCheckpointRequest()
        )
        name = voice_fingerprint(
            np.frombuffer(codes, dtype="<u2").tolist(),
            np.frombuffer(ids, dtype="<u4").tolist(),
            told.checkpoint_fingerprint,
        )
        call = SpeechGenServiceStub(channel).Speak()
        await call.write(
            SpeakRequest(open=SpeakOpen(voice_fingerprint=name, checkpoint_fingerprint=told.checkpoint_fingerprint))
        )
        try:
            await call.read()
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return False
            raise
        finally:
            call.cancel()
        return True


async def test_a_deleted_voice_and_session_are_in_no_file_and_no_cache(stack: LocalStack) -> None:
    folder = stack.folder.path / "valkey"
    recording = await asyncio.to_thread(VOICE_FILE.read_bytes)
    async with stack.client() as client:
        await client.create_voice(
            "erased", audio_file=recording, transcript=VOICE_TRANSCRIPT.upper(), consent="public-domain recording"
        )
        async with client.conversation(voice="erased", max_reply_s=1.0, max_lead_s=0, system_prompt=WORDS) as talk:
            await talk.send_text(WORDS)
            assert (await ask(talk)).outcome == "completed"
        async with Redis.from_url(stack.endpoints.redis_url) as redis:
            found: list[Any] = await redis.hmget("chroma:voice:{default}:erased", ["codes", "transcript_ids"])
            codes, ids = found
            assert await is_cached(stack, codes, ids)
            assert holds(folder, codes)
            assert holds(folder, WORDS.encode())
            await client.delete_session(talk.session.session_id)
            await client.delete_voice("erased")
            assert not await redis.exists("chroma:erasures")
        assert not await is_cached(stack, codes, ids)
        await gone_from(
            folder, codes, WORDS.encode(), talk.session.session_id.encode(), VOICE_TRANSCRIPT.upper().encode()
        )


@pytest.mark.parametrize("unstored", [True, False])
async def test_an_unstored_conversation_leaves_no_state_in_the_reasoner(stack: LocalStack, unstored: bool) -> None:
    async with stack.client() as client:
        system_prompt = f"A prompt of many words that nobody else has, so that it fills some pages: {unstored}. " * 4
        cached = []
        for _ in range(2):
            async with client.conversation(
                voice="reader", max_reply_s=0.5, max_lead_s=0, system_prompt=system_prompt, store=not unstored
            ) as talk:
                await talk.send_text("How do I make a taco?")
                cached.append((await ask(talk)).cached_tokens)
    assert (cached[1] > cached[0]) is not unstored
