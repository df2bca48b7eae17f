"""The parts of a gateway that all its conversations share, and the checks before a conversation begins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.conversation.options import check_change, check_new
from gateway.pipeline.upstreams import UpstreamPool
from gateway.settings import GatewaySettings
from gateway.store.sessions import Session, Sessions
from gateway.store.voices import Voices
from services.common.errors import FailedPrecondition, NotFound, ResourceExhausted
from services.common.telemetry.process_metrics import REFUSED


@dataclass
class Backend:
    """One gateway's upstreams, store and limits. All public APIs share it."""

    upstreams: UpstreamPool
    sessions: Sessions
    voices: Voices
    settings: GatewaySettings
    _seats: int = field(default=0, init=False)

    @contextmanager
    def seat(self) -> Iterator[None]:
        """Reserve room for one conversation. Raises ResourceExhausted when the gateway has no room left."""
        limit = self.settings.max_conversations
        if self._seats >= limit:
            REFUSED.labels("gateway", "conversations").inc()
            raise ResourceExhausted(f"the gateway holds {limit} conversations, as many as it may")
        self._seats += 1
        try:
            yield
        finally:
            self._seats -= 1

    async def create_session(self, tenant: str, config: SessionConfig) -> Session:
        """Create a session. Raises InvalidArgument, NotFound (the voice), Unavailable."""
        check_new(config)
        await self.check_voice(tenant, config.voice_id)
        return await self.sessions.create(tenant, config)

    async def check_change(self, tenant: str, config: SessionConfig) -> None:
        """Check a change of a session's settings. Raises InvalidArgument, NotFound (the voice), Unavailable."""
        check_change(config)
        if config.voice_id:
            await self.check_voice(tenant, config.voice_id)

    async def check_voice(self, tenant: str, voice_id: str) -> None:
        """Check that a voice exists. Raises NotFound, Unavailable."""
        if not await self.voices.exists(tenant, voice_id):
            raise NotFound(f"no voice {voice_id!r}")

    async def default_voice(self, tenant: str) -> str:
        """The voice for clients that name none: the configured one, else the first in order of ids.

        Raises FailedPrecondition when the tenant has no voice yet.
        """
        if self.settings.default_voice and await self.voices.exists(tenant, self.settings.default_voice):
            return self.settings.default_voice
        voices, _ = await self.voices.page(tenant, after="", size=1)
        if not voices:
            raise FailedPrecondition("no voice is enrolled yet: POST a recording to /v1/voices first")
        return voices[0].voice_id
