"""A backend over an emptied store, which holds three voices of the default tenant."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import httpx
import pytest
from starlette.applications import Starlette

from chroma.v1.audio_pb2 import CodeFrames
from chroma.v1.reasoner_pb2 import TokenIds
from chroma.v1.speech_gen_pb2 import EnrollVoiceResponse, VoicePrompt
from gateway.access.identity import Identity
from gateway.access.usage import Usage
from gateway.api.app import http_app
from gateway.conversation.backend import Backend
from gateway.pipeline.upstreams import UpstreamPool
from gateway.settings import GatewaySettings
from gateway.store.consents import Consent
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
        consent = Consent("default", "Ada", "agreed", f"sha256 of {voice_id}", "key-1", 100.25)
        voice = Voice(voice_id, voice_id.title(), "hello", "agreed", 1.5, 100.25, consent.consent_id)
        await voices.create("default", voice, EnrollVoiceResponse(prompt=_PROMPT), consent)
    pool = cast(UpstreamPool, FakeUpstreamPool())
    return Backend(pool, Sessions(store, settings), voices, settings, Usage(None, settings))


@pytest.fixture
def app(backend: Backend, store: Store) -> Starlette:
    """The HTTP application over that backend."""
    identity = Identity(backend.settings, store, backend.audit)
    return http_app(backend, Replies(store), identity, asyncio.Event(), lambda: True)


@pytest.fixture
async def http(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the HTTP application over that backend."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:  # pyright: ignore[reportArgumentType]
        yield http
