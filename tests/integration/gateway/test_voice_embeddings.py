"""The embedding of a cloned voice: sent to a replica without the voice, computed anew for another checkpoint."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio import Redis

from chroma.v1 import dialogue_pb2 as pb
from chroma.v1.speech_gen_pb2 import EnrollVoiceRequest, SpeakOpen, VoiceEmbedding, VoicePrompt
from chroma.v1.tensor_pb2 import Tensor
from services.common.wire.voice_fingerprint import voice_fingerprint
from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.fake_services import embedding
from tests.support.gateway_client import Client, new_voice

EMBEDDINGS = "chroma:voice_embeddings:{default}"


async def stored(redis_url: str, checkpoint: str) -> Tensor | None:
    """The stored embedding of the voice `ada` for a checkpoint."""
    async with Redis.from_url(redis_url) as redis:
        data: Any = await redis.hget(EMBEDDINGS, f"ada:{checkpoint}")
    return None if data is None else Tensor.FromString(data)


def asked(fakes: Fakes, kind: type[Any]) -> list[Any]:
    """Take the requests of one kind that the speech generator got so far, in order."""
    opened = fakes.speech_gen.script.opened
    found = [request for request in opened if isinstance(request, kind)]
    opened[:] = [request for request in opened if not isinstance(request, kind)]
    return found


async def ask(client: Client) -> None:
    async with client.converse() as talk:
        assert (await talk.ask("question")).outcome == pb.TURN_OUTCOME_COMPLETED


async def prompt_of_ada(client: Client, fakes: Fakes) -> VoicePrompt:
    """The prompt of the voice `ada`, from its first turn at a replica that does not have it."""
    fakes.speech_gen.script.voices.clear()
    asked(fakes, SpeakOpen)
    await ask(client)
    by_name, by_prompt = asked(fakes, SpeakOpen)
    assert by_name.WhichOneof("voice") == "voice_fingerprint"
    return by_prompt.voice_prompt


async def test_a_replica_that_does_not_have_a_voice_gets_its_prompt_and_its_embedding(
    client: Client, fakes: Fakes, redis_url: str
) -> None:
    fakes.speech_gen.script.voices.clear()
    asked(fakes, EnrollVoiceRequest)
    await ask(client)
    await ask(client)
    by_name, by_prompt, later = asked(fakes, SpeakOpen)
    prompt = by_prompt.voice_prompt
    assert "".join(map(chr, prompt.transcript.ids)) == "hello"
    assert len(prompt.frames.codes) == 25 * 8
    name = voice_fingerprint(prompt.frames.codes, prompt.transcript.ids, "fake")
    assert by_name.voice_fingerprint == later.voice_fingerprint == name
    assert not by_name.HasField("voice_embedding")
    assert by_prompt.voice_embedding == VoiceEmbedding(rows=embedding(prompt, "fake"), checkpoint_fingerprint="fake")
    assert await stored(redis_url, "fake") == embedding(prompt, "fake")
    assert asked(fakes, EnrollVoiceRequest) == []


async def test_another_checkpoint_gets_the_prompt_alone_and_its_embedding_is_stored_beside_the_old_one(
    client: Client, fakes: Fakes, redis_url: str
) -> None:
    prompt = await prompt_of_ada(client, fakes)
    for service in fakes:
        await service.kill()
        service.script.checkpoint = "new"
        await service.start()
    asked(fakes, EnrollVoiceRequest)
    async with client.converse() as talk:
        while (await talk.ask("question")).outcome == pb.TURN_OUTCOME_FAILED:
            pass  # until the gateway has found all three again
    by_name, by_prompt = asked(fakes, SpeakOpen)
    assert by_name.voice_fingerprint == voice_fingerprint(prompt.frames.codes, prompt.transcript.ids, "new")
    assert by_prompt.voice_prompt == prompt
    assert not by_prompt.HasField("voice_embedding")
    async with asyncio.timeout(60):
        while (made := await stored(redis_url, "new")) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # the turn does not wait for the store
    assert made == embedding(prompt, "new")
    assert await stored(redis_url, "fake") == embedding(prompt, "fake")
    (remade,) = asked(fakes, EnrollVoiceRequest)
    assert remade.frames == prompt.frames
    assert remade.transcript_ids == prompt.transcript


async def test_without_room_for_embeddings_every_replica_computes_its_own(
    start_gateway: StartGateway, fakes: Fakes, redis_url: str
) -> None:
    async with start_gateway(voice_embeddings_bytes=0) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        await prompt_of_ada(client, fakes)
    assert await stored(redis_url, "fake") is None
