"""The session of a conversation: its settings, history and voice, in memory and in the store.

A change of the history takes effect in memory at once, and its write to the store follows in order, beside the
conversation. So no turn waits for a slow store. While a write is under way, the memory is newer than the store and is
not read anew. While the store is away, the conversation goes on from memory.

A session without an id is ephemeral: it is in memory only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.conversation.options import ConversationOptions
from gateway.pipeline.requests import TurnPlan
from gateway.settings import GatewaySettings
from gateway.store.records import TurnRecord
from gateway.store.sessions import Session, Sessions, merge
from gateway.store.voices import SpokenVoice, Voices
from services.common.errors import NotFound, Unavailable
from services.common.wire.audio import FRAME_RATE_HZ


class SessionContext:
    """One conversation's session, history and voice. `voice` is an ephemeral one, which is in no store."""

    def __init__(
        self,
        session: Session,
        sessions: Sessions,
        voices: Voices,
        settings: GatewaySettings,
        voice: SpokenVoice | None = None,
    ) -> None:
        self.session = session
        self._sessions = sessions
        self._voices = voices
        self._settings = settings
        self._voice = voice
        """The voice of the last turn, or the ephemeral one."""
        self._voice_is_ephemeral = voice is not None
        self._writes: set[asyncio.Task[bool]] = set()
        self._write_order = asyncio.Lock()
        """Held by the write under way. The others wait in the order in which they were asked for."""

    async def plan(self, options: ConversationOptions, change: SessionConfig | None = None) -> TurnPlan:
        """The plan of the next turn. `change` holds settings for this turn alone.

        The session is read anew, because another connection may have changed it. Raises NotFound when the session or
        its voice is gone, Unavailable when the store is away and no turn had this voice before.
        """
        await self._refresh()
        config = merge(self.session.config, change) if change else self.session.config
        if not options.text_only:
            await self._find_voice(config.voice_id)
        max_reply_s = min(config.max_reply_s, self._settings.max_reply_s) if config.HasField("max_reply_s") else None
        return TurnPlan(
            session_id=self.session.session_id,
            config=self.session.config,
            system_prompt=config.system_prompt if config.HasField("system_prompt") else None,
            history=self.session.turns,
            voice=None if options.text_only else self._voice,
            sampling=config.sampling if config.HasField("sampling") else None,
            max_frames=max(1, int((max_reply_s or self._settings.max_reply_s) * FRAME_RATE_HZ)),
            max_lead_s=options.max_lead_s,
            output_encoding=options.output_encoding,
        )

    def add_turn(self, record: TurnRecord, *, drop_oldest: int = 0) -> tuple[int, Awaitable[bool]]:
        """Add a turn to the history, without its `drop_oldest` oldest turns and those that no longer fit.

        Returns the number of turns dropped, and an awaitable of whether the store has the turn.
        """
        before = self.session
        self.session = after = self._sessions.remember(before, record, forget=drop_oldest)
        written = self._write(lambda: self._sessions.record(before, after))
        return after.dropped_turns - before.dropped_turns, written

    def shorten(self, heard_samples: int, turn_id: str = "") -> None:
        """Keep only what the user heard of a reply, never more than the history has. An empty id means the last
        turn."""
        turn = self._find(turn_id)
        if turn is not None and (record := turn.heard(heard_samples)).heard_tokens < turn.heard_tokens:
            self._amend(record)

    async def remove(self, turn_id: str, *, user: bool) -> bool:
        """Remove the user's side of a turn, or its reply, from the history. False if there is no such turn."""
        turn = self._find(turn_id)
        if turn is None:
            return False
        if user:
            await self._amend(replace(turn, user=(), input_audio_s=0.0))
        else:
            await self._amend(replace(turn, token_ids=(), texts=(), heard_tokens=0))
        return True

    async def configure(self, change: SessionConfig) -> None:
        """Change the settings, from the next turn on. Raises NotFound, Unavailable."""
        if self.session.session_id:
            config = await self._sessions.configure(self.session.tenant, self.session.session_id, change)
        else:
            config = merge(self.session.config, change)
        self.session = replace(self.session, config=config)

    async def written(self) -> None:
        """Wait until no write is under way."""
        while self._writes:
            await asyncio.wait(self._writes)

    async def _refresh(self) -> None:
        before = self.session
        if self._writes or not before.session_id:
            return
        try:
            fresh = await self._sessions.refresh(before)
        except Unavailable:
            if self._voice is None:
                raise
        else:
            if self.session is before:  # else the history changed meanwhile, and memory is newer
                self.session = fresh

    async def _find_voice(self, voice_id: str) -> None:
        known = self._voice is not None and self._voice.voice_id == voice_id
        if self._voice_is_ephemeral or (self._writes and known):
            return
        try:
            self._voice = await self._voices.spoken(self.session.tenant, voice_id)
        except Unavailable:
            if not known:
                raise

    def _find(self, turn_id: str) -> TurnRecord | None:
        """A turn of the history. An empty id means the last one."""
        return next((turn for turn in reversed(self.session.turns) if turn_id in ("", turn.turn_id)), None)

    def _amend(self, record: TurnRecord) -> asyncio.Task[bool]:
        """Replace a turn of the history. If the store does not answer, it keeps the longer turn."""
        turns = tuple(record if old.turn_id == record.turn_id else old for old in self.session.turns)
        self.session = session = replace(self.session, turns=turns)
        return self._write(lambda: self._sessions.amend(session, record))

    def _write(self, write: Callable[[], Awaitable[Session]]) -> asyncio.Task[bool]:
        """Change the store after the changes before. The task says whether the store has the change."""
        task = asyncio.create_task(self._write_in_order(write, self.session))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        return task

    async def _write_in_order(self, write: Callable[[], Awaitable[Session]], asked: Session) -> bool:
        if not asked.session_id:
            return False
        async with self._write_order:
            try:
                result = await write()
            except (Unavailable, NotFound):
                return False
        # `self.session` may have changed since: only the store's sequence number is taken from the result.
        grown = result.sequence - asked.sequence
        self.session = replace(self.session, sequence=self.session.sequence + grown)
        return True
