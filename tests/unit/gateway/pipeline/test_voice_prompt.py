"""A voice for a replica that does not have it, over a scripted store and a scripted replica."""

from __future__ import annotations

from typing import Any, cast

import grpc
import pytest
from grpc import aio

from chroma.v1.audio_pb2 import CodeFrames
from chroma.v1.reasoner_pb2 import TokenIds
from chroma.v1.speech_gen_pb2 import (
    EnrollVoiceRequest,
    EnrollVoiceResponse,
    SpeakOpen,
    VoiceEmbedding,
    VoicePrompt,
)
from chroma.v1.tensor_pb2 import Tensor
from gateway.pipeline.upstreams import Upstream
from gateway.pipeline.voice_prompt import add_voice_prompt, store_embedding
from gateway.store.embeddings import StoredEmbeddings
from gateway.store.voices import SpokenVoice
from tests.support.fake_calls import FakeUpstream

_PROMPT = VoicePrompt(frames=CodeFrames(codes=range(8)), transcript=TokenIds(ids=[7]))
_ROWS = Tensor(shape=[1, 2], data=b"rows")
_SPEECH_GEN = cast(Upstream, FakeUpstream("speech_gen"))


class FakeEmbeddings(StoredEmbeddings):
    """The embeddings of one voice, in a dictionary."""

    def __init__(self, **rows: Tensor) -> None:
        self.rows = rows

    async def find(self, checkpoint: str) -> Tensor | None:
        return self.rows.get(checkpoint)

    async def keep(self, checkpoint: str, embedding: Tensor) -> None:
        self.rows[checkpoint] = embedding


class FakeReplica:
    """The stub of a speech generator whose checkpoint is `one`. It refuses when it has an error."""

    def __init__(self, error: grpc.StatusCode | None = None) -> None:
        self.asked: list[EnrollVoiceRequest] = []
        self._error = error

    async def EnrollVoice(self, request: EnrollVoiceRequest, **call: Any) -> EnrollVoiceResponse:  # noqa: N802
        self.asked.append(request)
        if self._error is not None:
            raise aio.AioRpcError(self._error, aio.Metadata(), aio.Metadata(), details="refused")
        return EnrollVoiceResponse(embeddings=_ROWS, checkpoint_fingerprint="one")


@pytest.mark.parametrize(("checkpoint", "found"), [("one", True), ("other", False)])
async def test_the_embedding_goes_with_the_prompt_if_the_store_has_the_one_of_this_checkpoint(
    checkpoint: str, found: bool
) -> None:
    voice = SpokenVoice("ada", _PROMPT, FakeEmbeddings(one=_ROWS))
    opened = SpeakOpen(voice_fingerprint="f", checkpoint_fingerprint=checkpoint)
    assert await add_voice_prompt(opened, voice) is found
    assert opened.WhichOneof("voice") == "voice_prompt"
    assert opened.voice_prompt == _PROMPT
    expected = VoiceEmbedding(rows=_ROWS, checkpoint_fingerprint="one") if found else VoiceEmbedding()
    assert opened.voice_embedding == expected


async def test_a_voice_that_is_not_in_the_store_has_a_prompt_alone_and_is_not_stored_later() -> None:
    voice, replica = SpokenVoice("ada", _PROMPT), FakeReplica()
    opened = SpeakOpen(voice_fingerprint="f", checkpoint_fingerprint="one")
    assert not await add_voice_prompt(opened, voice)
    assert not opened.HasField("voice_embedding")
    await store_embedding(voice, _SPEECH_GEN, replica)
    assert replica.asked == []


async def test_the_embedding_that_the_replica_computed_is_stored_under_its_checkpoint() -> None:
    embeddings, replica = FakeEmbeddings(), FakeReplica()
    await store_embedding(SpokenVoice("ada", _PROMPT, embeddings), _SPEECH_GEN, replica)
    assert embeddings.rows == {"one": _ROWS}
    assert replica.asked == [EnrollVoiceRequest(frames=_PROMPT.frames, transcript_ids=_PROMPT.transcript)]


async def test_a_replica_that_refuses_does_not_fail_the_turn() -> None:
    embeddings = FakeEmbeddings()
    replica = FakeReplica(grpc.StatusCode.UNAVAILABLE)
    await store_embedding(SpokenVoice("ada", _PROMPT, embeddings), _SPEECH_GEN, replica)
    assert (len(replica.asked), embeddings.rows) == (1, {})
