"""Sessions and voices in memory. A test can freeze the store or make it fail."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from chroma.v1.dialogue_pb2 import SessionConfig
from chroma.v1.speech_gen_pb2 import VoicePrompt
from gateway.access.caller import Caller
from gateway.settings import GatewaySettings
from gateway.store.connection.server import Server
from gateway.store.embeddings import EmbeddingLimits
from gateway.store.records import TurnRecord
from gateway.store.redis import Store
from gateway.store.sessions import Session, Sessions
from gateway.store.voices import SpokenVoice, Voices
from services.common.errors import ChromaError, NotFound

CALLER = Caller("tenant")


class FakeSessions(Sessions):
    """A store of one session. Clear `answers` to freeze it; set `failure` to make it raise that."""

    def __init__(self, session: Session, settings: GatewaySettings) -> None:
        super().__init__(cast(Store, None), settings)
        self.stored = session
        self.answers = asyncio.Event()
        self.answers.set()
        self.failure: ChromaError | None = None
        self.unrecorded: frozenset[str] = frozenset()
        """The turns that the last recording named as unrecorded."""
        self.log: list[str] = []
        self.voices = {"ada"}
        """The ids of the stored voices."""

    async def answer(self) -> None:
        """Wait while frozen. Raises the failure."""
        await self.answers.wait()
        if self.failure is not None:
            raise self.failure

    async def refresh(self, session: Session) -> Session:
        await self.answer()
        return self.stored if self.stored.sequence != session.sequence else replace(session, config=self.stored.config)

    async def record(self, before: Session, after: Session) -> Session:
        await self.answer()
        self.unrecorded = before.unrecorded
        self.log.append(f"record {after.turns[-1].turn_id}")
        self.stored = replace(self.stored, turns=after.turns, sequence=self.stored.sequence + 1)
        return replace(after, sequence=before.sequence + 1)

    async def place(self, before: Session, after: Session, put: Sequence[TurnRecord]) -> Session:
        await self.answer()
        self.log.append(f"place {' '.join(turn.turn_id for turn in put)}")
        self.stored = replace(self.stored, turns=after.turns, sequence=self.stored.sequence + 1)
        return replace(after, sequence=before.sequence + 1)

    async def amend(self, session: Session, turn: TurnRecord) -> Session:
        await self.answer()
        self.log.append(f"amend {turn.turn_id} to {turn.heard_tokens}")
        turns = tuple(turn if old.turn_id == turn.turn_id else old for old in self.stored.turns)
        self.stored = replace(self.stored, turns=turns, sequence=self.stored.sequence + 1)
        return replace(session, sequence=session.sequence + 1)

    async def configure(self, tenant: str, session_id: str, change: SessionConfig) -> SessionConfig:
        await self.answer()
        return change


class NoServers:
    """A store without servers, so without append-only files, as a deletion that rewrites the files sees it."""

    servers: NoServers

    def __init__(self) -> None:
        self.servers = self

    async def primaries(self) -> list[Server]:
        return []

    async def replicas(self) -> list[Server]:
        return []

    async def missing(self) -> int:
        return 0


class FakeVoices(Voices):
    """A store of the voice `ada`."""

    def __init__(self, sessions: FakeSessions) -> None:
        super().__init__(cast(Store, NoServers()), EmbeddingLimits(1, 1))
        self._sessions = sessions

    async def spoken(self, tenant: str, voice_id: str) -> SpokenVoice:
        await self._sessions.answer()
        if voice_id not in self._sessions.voices:
            raise NotFound(f"no voice {voice_id!r}")
        return SpokenVoice(voice_id, VoicePrompt())

    async def exists(self, tenant: str, voice_id: str) -> bool:
        await self._sessions.answer()
        return voice_id in self._sessions.voices
