"""The parts of a gateway that all its conversations share, and the checks before a conversation begins."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial

from chroma.v1.checkpoint_pb2 import CheckpointCard
from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.access.audit import AuditLog
from gateway.access.caller import Caller
from gateway.access.limits import LimitName
from gateway.access.usage import Usage
from gateway.conversation.drain import Drain
from gateway.conversation.options import check_change, check_new
from gateway.pipeline.erasure.erasure import Eraser
from gateway.pipeline.prompt_size import PromptTooLong, check_prompt_size
from gateway.pipeline.upstreams import UpstreamPool
from gateway.settings import GatewaySettings
from gateway.store.sessions import Session, Sessions, new_session_id
from gateway.store.voices import Voices
from services.common.errors import ChromaError, FailedPrecondition, NotFound


@dataclass
class Backend:
    """One gateway's upstreams, store and limits. All public APIs share it."""

    upstreams: UpstreamPool
    sessions: Sessions
    voices: Voices
    settings: GatewaySettings
    usage: Usage
    audit: AuditLog = field(default_factory=AuditLog)
    drain: Drain = field(default_factory=lambda: Drain(asyncio.Event(), None))
    eraser: Eraser = field(init=False)

    def __post_init__(self) -> None:
        self.eraser = Eraser(self.upstreams, self.sessions, self.voices, self.audit, self.usage)

    def seat(self, caller: Caller) -> AbstractAsyncContextManager[None]:
        """Reserve room for one conversation of this caller. Raises ResourceExhausted when there is no room left."""
        return self.usage.seat(caller)

    @property
    def renders_tools(self) -> bool:
        """Whether the checkpoint's chat template renders tools, as the reasoner tells."""
        return self.upstreams.reasoner.renders_tools()

    @property
    def card(self) -> CheckpointCard | None:
        """What the checkpoint says of itself, as the reasoner tells. None: nothing."""
        return self.upstreams.reasoner.card()

    def upstreams_of(self, caller: Caller) -> UpstreamPool:
        """The upstreams for this caller's turns, which have its share of the slots."""
        return self.upstreams.with_seat(partial(self.usage.turn_seat, caller))

    async def create_session(self, caller: Caller, config: SessionConfig, *, store: bool = True) -> Session:
        """Create a session; without `store` one that is in memory only and has no id.

        Raises InvalidArgument, NotFound (the voice), ResourceExhausted (too many sessions, or too many bytes in the
        store), Unavailable.
        """
        check_new(config, max_prompt_chars=self.settings.max_prompt_chars)
        await self.check_prompt(config)
        await self.check_voice(caller.tenant, config.voice_id)
        if not store:
            now = time.time()
            return Session(caller.tenant, "", config, (), 0, 0, now, now)
        session_id = new_session_id()
        size, ttl_s = config.ByteSize(), self.settings.session_ttl_s
        await self.usage.hold(caller, LimitName.SESSIONS, session_id, size, ttl_s=ttl_s)
        try:
            return await self.sessions.create(caller.tenant, config, session_id)
        except ChromaError:
            await self.usage.let_go(caller.tenant, LimitName.SESSIONS, session_id)
            raise

    async def make_room(self, caller: Caller, session: Session) -> None:
        """Count the size of a session before it is written. Raises ResourceExhausted when the tenant has no room."""
        size = session.config.ByteSize() + sum(turn.size_bytes() for turn in session.turns)
        ttl_s = self.settings.session_ttl_s
        await self.usage.hold(caller, LimitName.SESSIONS, session.session_id, size, ttl_s=ttl_s)

    async def check_change(self, tenant: str, config: SessionConfig) -> None:
        """Check a change of a session's settings. Raises InvalidArgument, NotFound (the voice), Unavailable."""
        check_change(config, max_prompt_chars=self.settings.max_prompt_chars)
        await self.check_prompt(config)
        if config.voice_id:
            await self.check_voice(tenant, config.voice_id)

    async def check_prompt(self, config: SessionConfig, field: str = "") -> None:
        """Check that system prompt and tools leave room for turns. Raises PromptTooLong, which names the `field`."""
        try:
            await check_prompt_size(self.upstreams.reasoner, config)
        except PromptTooLong as error:
            field = field or ("system_prompt" if config.system_prompt else "tools")
            raise PromptTooLong(f"{field}: {error.message}") from None

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
