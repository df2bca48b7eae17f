"""A backend over an emptied store, which holds three voices of the default tenant."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import httpx
import pytest

from chroma.v1.audio_pb2 import CodeFrames
from chroma.v1.reasoner_pb2 import TokenIds
from chroma.v1.speech_gen_pb2 import EnrollVoiceResponse, VoicePrompt
from gateway.api.app import http_app
from gateway.conversation.backend import Backend
from gateway.pipeline.upstreams import UpstreamPool
from gateway.settings import GatewaySettings
from gateway.store.embeddings import EmbeddingLimits
from gateway.store.redis import Store
from gateway.store.replies import Replies
from gateway.store.sessions import Sessions
from gateway.store.voices import Voice, Voices
from tests.support.fake_calls import FakeUpstreamPool

_PROMPT = VoicePrompt(frames=CodeFrames(codes=range(8)), transcript=TokenIds(ids=[7]))


@pytest.fixture
async def backend(store: Store, redis_url: str) -> Backend:
    """A backend whose default tenant has the voices `ada`, `bob` and `eve`."""
    settings = GatewaySettings(reasoner="a:1", speech_gen="b:1", codec="c:1", redis_url=redis_url)
    voices = Voices(store, EmbeddingLimits(count=8, size_bytes=1_000))
    for voice_id in ("ada", "bob", "eve"):
        voice = Voice(voice_id, voice_id.title(), "hello", "agreed", 1.5, 100.25)
        await voices.create("default", voice, EnrollVoiceResponse(prompt=_PROMPT))
    return Backend(cast(UpstreamPool, FakeUpstreamPool()), Sessions(store, settings), voices, settings)


@pytest.fixture
async def http(backend: Backend, store: Store) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the HTTP application over that backend."""
    app = http_app(backend, Replies(store), asyncio.Event(), lambda: True)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http:  # pyright: ignore[reportArgumentType]
        yield http
