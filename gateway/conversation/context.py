"""What a conversation knows of its session: kept in the store while that answers, and in mind while it does not.

A session without an id is a passing one: it is kept in mind only.
"""

from __future__ import annotations

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
    """One conversation's session, history and voice."""

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
        """The voice last spoken with; a passing one is given and in no store."""
        self._passing = voice is not None

    async def plan(self, terms: ConversationOptions, change: SessionConfig | None = None) -> TurnPlan:
        """What the next turn needs, read anew: another connection may have changed the session. `change` is for this
        turn alone.

        Raises NotFound when the session or its voice is gone, Unavailable when the store is away and was never asked
        for this voice.
        """
        await self._refresh()
        config = merge(self.session.config, change) if change else self.session.config
        if not terms.text_only:
            await self._find_voice(config.voice_id)
        max_reply_s = min(config.max_reply_s, self._settings.max_reply_s) if config.HasField("max_reply_s") else None
        return TurnPlan(
            session_id=self.session.session_id,
            config=self.session.config,
            system_prompt=config.system_prompt if config.HasField("system_prompt") else None,
            history=self.session.turns,
            voice=None if terms.text_only else self._voice,
            sampling=config.sampling if config.HasField("sampling") else None,
            max_frames=max(1, int((max_reply_s or self._settings.max_reply_s) * FRAME_RATE_HZ)),
            max_lead_s=terms.max_lead_s,
            output_encoding=terms.output_encoding,
        )

    async def keep(self, record: TurnRecord, *, forget: int) -> tuple[bool, int]:
        """Add a turn to the history, dropping its `forget` oldest ones and those that no longer fit.

        Returns whether the store has it, and how many turns were dropped.
        """
        before = self.session
        self.session = after = self._sessions.remember(before, record, forget=forget)
        dropped = after.dropped_turns - before.dropped_turns
        if not after.session_id:
            return False, dropped
        try:
            self.session = await self._sessions.record(before, after)
        except (Unavailable, NotFound):
            return False, dropped
        return True, dropped

    async def shorten(self, heard_samples: int, turn_id: str = "") -> None:
        """Let the history keep only what was heard of a reply, the last one unless named; never more than it keeps
        already."""
        turn = self._find(turn_id)
        if turn is not None and (record := turn.heard(heard_samples)).heard_tokens < turn.heard_tokens:
            await self._amend(record)

    async def forget(self, turn_id: str, *, user: bool) -> bool:
        """Drop the user's side of a turn, or the reply, from the history. False if there is no such turn."""
        turn = self._find(turn_id)
        if turn is None:
            return False
        if user:
            await self._amend(replace(turn, user=(), input_audio_s=0.0))
        else:
            await self._amend(replace(turn, token_ids=(), texts=(), heard_tokens=0))
        return True

    async def _refresh(self) -> None:
        try:
            if self.session.session_id:
                self.session = await self._sessions.refresh(self.session)
        except Unavailable:
            if self._voice is None:
                raise

    async def _find_voice(self, voice_id: str) -> None:
        if self._passing:
            return
        try:
            self._voice = await self._voices.spoken(self.session.tenant, voice_id)
        except Unavailable:
            if self._voice is None or self._voice.voice_id != voice_id:
                raise

    def _find(self, turn_id: str) -> TurnRecord | None:
        """A turn of the history; the last one for an empty id."""
        return next((turn for turn in reversed(self.session.turns) if turn_id in ("", turn.turn_id)), None)

    async def _amend(self, record: TurnRecord) -> None:
        turns = tuple(record if old.turn_id == record.turn_id else old for old in self.session.turns)
        self.session = replace(self.session, turns=turns)
        if not self.session.session_id:
            return
        try:
            self.session = await self._sessions.amend(self.session, record)
        except Unavailable:
            return  # the turn stays longer in the store, as it was acknowledged

    async def configure(self, change: SessionConfig) -> None:
        """Change the settings, from the next turn on."""
        if self.session.session_id:
            config = await self._sessions.configure(self.session.tenant, self.session.session_id, change)
        else:
            config = merge(self.session.config, change)
        self.session = replace(self.session, config=config)
