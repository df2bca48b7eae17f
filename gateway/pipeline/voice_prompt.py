"""How a replica of the speech generator gets a voice that it does not have.

A turn names its voice by a fingerprint. A replica that does not have the voice answers NOT_FOUND. The turn then calls
it again with the voice prompt. The voice's embedding goes with it if the store has one of the turn's checkpoint.
Otherwise the replica computes the embedding, and the gateway stores it for the next replica.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from chroma.v1.speech_gen_pb2 import EnrollVoiceRequest, SpeakOpen, VoiceEmbedding
from gateway.pipeline.enrolment import enrol_at
from gateway.pipeline.upstreams import Upstream
from gateway.store.voices import SpokenVoice
from services.common.errors import ChromaError


async def add_voice_prompt(opened: SpeakOpen, voice: SpokenVoice) -> bool:
    """Add the voice's prompt to `opened`, and its stored embedding. Return False when the store has no embedding."""
    opened.voice_prompt.CopyFrom(voice.prompt)
    checkpoint = opened.checkpoint_fingerprint
    rows = await voice.embeddings.find(checkpoint) if voice.embeddings else None
    if rows is None:
        return False
    opened.voice_embedding.CopyFrom(VoiceEmbedding(rows=rows, checkpoint_fingerprint=checkpoint))
    return True


async def store_embedding(voice: SpokenVoice, speech_gen: Upstream, stub: Any) -> None:
    """Fetch the embedding that the replica of this stub has computed, and store it.

    Does nothing for a voice that is not in the store. Failures are dropped: the embeddings are a cache.
    """
    if voice.embeddings is None:
        return
    request = EnrollVoiceRequest(frames=voice.prompt.frames, transcript_ids=voice.prompt.transcript)
    with suppress(ChromaError):
        enrolled = await enrol_at(speech_gen, request, stub)
        await voice.embeddings.keep(enrolled.checkpoint_fingerprint, enrolled.embeddings)
