"""The session of a conversation: its settings, history and voice, in memory and in the store.

A change of the history takes effect in memory at once, and its write to the store follows in order, beside the
conversation. So no turn waits for a slow store. While a write is under way, the memory is newer than the store and is
not read anew. While the store is away or full, the conversation goes on from memory. A session that the store lost is
written again from memory.

A session without an id is ephemeral: it is in memory only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from enum import Enum, auto

from chroma.v1.dialogue_pb2 import SessionConfig
from gateway.conversation.options import ConversationOptions
from gateway.pipeline.requests import TurnPlan
from gateway.settings import GatewaySettings
from gateway.store.connection.failures import STORE_FAILURES
from gateway.store.records import ToolCall, TurnRecord
from gateway.store.sessions import Session, Sessions, merge
from gateway.store.voices import SpokenVoice, Voices
from services.common.errors import InvalidArgument, NotFound, Unavailable
from services.common.wire.audio import FRAME_RATE_HZ

_VOICE_PATIENCE_S = 0.25
"""How long a turn waits for a voice that it knows, while the store has not answered a write yet."""


class Recording(Enum):
    """What became of a change of the history."""

    RECORDED = auto()
    """The store has it."""
    UNRECORDED = auto()
    """The store did not take it: it is in memory only."""
    NOT_KEPT = auto()
    """It is not to be kept: the session is ephemeral, or its user deleted it."""


def check_recorded(recording: Recording) -> None:
    """Raise Unavailable for a change that the store did not take."""
    if recording is Recording.UNRECORDED:
        raise Unavailable("the store did not confirm the change, and may still hold what it removes: try again")


class SessionContext:
    """One conversation's session, history and voice. `voice` is an ephemeral one, which is in no store.

    `make_room` is awaited with the session before it is written with a further turn. It raises ResourceExhausted when
    the tenant has no room for it.
    """

    def __init__(
        self,
        session: Session,
        sessions: Sessions,
        voices: Voices,
        settings: GatewaySettings,
        voice: SpokenVoice | None = None,
        *,
        on_voice: Callable[[str], None] = lambda voice_id: None,
        make_room: Callable[[Session], Awaitable[None]] | None = None,
    ) -> None:
        """`on_voice` is called when a turn is planned with another voice of the store than the turn before."""
        self.session = session
        self._sessions = sessions
        self._voices = voices
        self._settings = settings
        self._make_room = make_room
        self._voice = voice
        """The voice of the last turn, or the ephemeral one."""
        self._voice_is_ephemeral = voice is not None
        self._on_voice = on_voice
        self._writes: set[asyncio.Task[Recording]] = set()
        self._write_order = asyncio.Lock()
        """Held by the write under way. The others wait in the order in which they were asked for."""

    async def plan(self, options: ConversationOptions, change: SessionConfig | None = None) -> TurnPlan:
        """The plan of the next turn. `change` holds settings for this turn alone.

        The session is read anew, because another connection may have changed it. Raises NotFound when the session or
        its voice is gone, Unavailable or ResourceExhausted when the store fails and no turn had this voice before.
        """
        await self._refresh()
        config = merge(self.session.config, change) if change else self.session.config
        is_spoken = not options.text_only and options.max_output_tokens != 1  # one token is text: speech needs two
        if is_spoken:
            await self._find_voice(config.voice_id)
        max_reply_s = min(config.max_reply_s, self._settings.max_reply_s) if config.HasField("max_reply_s") else None
        return TurnPlan(
            session_id=self.session.session_id,
            config=self.session.config,
            system_prompt=config.system_prompt or None,
            history=self.session.turns,
            voice=self._voice if is_spoken else None,
            sampling=config.sampling if config.HasField("sampling") else None,
            max_frames=max(1, int((max_reply_s or self._settings.max_reply_s) * FRAME_RATE_HZ)),
            max_lead_s=options.max_lead_s,
            max_tokens=options.max_output_tokens,
            output_encoding=options.output_encoding,
            tenant=self.session.tenant,
            tools=config.tools if config.tools.tools else None,
            stop=options.stop,
        )

    def add_turn(self, record: TurnRecord, *, drop_oldest: int = 0) -> tuple[int, Awaitable[Recording]]:
        """Add a turn to the history, without its `drop_oldest` oldest turns and those that no longer fit.

        Returns the number of turns dropped, and an awaitable of what became of the turn in the store.
        """
        before = self.session
        self.session = after = self._sessions.remember(before, record, forget=drop_oldest)
        written = self._write(lambda: self._record(before, after))
        return after.dropped_turns - before.dropped_turns, written

    def insert(self, records: Sequence[TurnRecord], after: str) -> Awaitable[Recording]:
        """Put turns of the past after the turn `after`; an empty or unknown id means before all turns. Turns of the
        history move there. Returns an awaitable of what became of them in the store. Raises OutOfRange when the history
        has no room at that place."""
        before = self.session
        self.session = inserted = self._sessions.insert(before, records, after)
        return self._write(lambda: self._place(before, inserted, records))

    def find(self, turn_id: str) -> TurnRecord | None:
        """Return a turn of the history. An empty id means the last one."""
        return next((turn for turn in reversed(self.session.turns) if turn_id in ("", turn.turn_id)), None)

    def shorten(self, heard_samples: int, turn_id: str = "") -> Awaitable[Recording] | None:
        """Keep only what the user heard of a reply, never more than the history has. An empty id means the last
        turn. Returns an awaitable of what became of the change in the store; None when nothing had to change."""
        turn = self.find(turn_id)
        if turn is not None and (record := turn.heard(heard_samples)).heard_tokens < turn.heard_tokens:
            return self._amend(record)
        return None

    async def remove(self, turn_id: str, *, user: bool) -> bool:
        """Remove the user's side of a turn, or its reply, from the history. False if there is no such turn.

        Raises Unavailable when the store still has it: the history in memory is without it, and the call may be
        repeated.
        """
        turn = self.find(turn_id)
        if turn is None:
            return False
        if user:
            removed = replace(turn, user=(), input_audio_s=0.0)
        else:
            removed = replace(turn, token_ids=(), texts=(), heard_tokens=0)
        check_recorded(await self._amend(removed))
        return True

    def answer(self, call_id: str, output: str) -> str:
        """Put the result of a tool call into the history. Returns the id of the turn that made the call.

        Raises InvalidArgument when no turn of the history made this call.
        """
        turn = self._calling(call_id)
        if turn is None:
            raise InvalidArgument(f"no tool call {call_id[:80]!r} is in the history")
        calls = (replace(call, output=output) if call.call_id == call_id else call for call in turn.tool_calls)
        self._amend(replace(turn, tool_calls=tuple(calls)))
        return turn.turn_id

    def add_call(self, call: ToolCall) -> str:
        """Add a tool call to the last turn of the history, unless its calls have results. Returns the turn's id; empty:
        the call begins a turn of its own."""
        turn = self.find("")
        if turn is None or any(other.output is not None for other in turn.tool_calls):
            return ""
        self._amend(replace(turn, tool_calls=(*turn.tool_calls, call)))
        return turn.turn_id

    async def remove_call(self, call_id: str, *, output_only: bool) -> None:
        """Remove a tool call with its result, or the result alone. Does nothing when it has left the history.

        Raises Unavailable when the store still has it.
        """
        turn = self._calling(call_id)
        if turn is None:
            return
        calls = [call for call in turn.tool_calls if output_only or call.call_id != call_id]
        calls = [replace(call, output=None) if call.call_id == call_id else call for call in calls]
        check_recorded(await self._amend(replace(turn, tool_calls=tuple(calls))))

    def _calling(self, call_id: str) -> TurnRecord | None:
        """The last turn of the history that made a tool call of this id. None: there is none."""
        turns = reversed(self.session.turns)
        return next((turn for turn in turns if any(call.call_id == call_id for call in turn.tool_calls)), None)

    async def detach(self) -> str:
        """Keep nothing in the store from here on. Returns the id of the session so far, which is still stored; empty
        when it was not."""
        session_id = self.session.session_id
        self.session = replace(self.session, session_id="")
        await self.written()
        return session_id

    def attach(self, session_id: str) -> None:
        """Take a `detach` back, because the session could not be erased."""
        self.session = replace(self.session, session_id=session_id)

    async def configure(self, change: SessionConfig) -> None:
        """Change the settings, from the next turn on. Raises NotFound, Unavailable."""
        if self.session.session_id:
            await self._refresh()  # a session that the store lost is written again
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
        except STORE_FAILURES:
            if self._voice is None:
                raise
        else:
            if self.session is before:  # else the history changed meanwhile, and memory is newer
                self.session = fresh

    async def _find_voice(self, voice_id: str) -> None:
        """Read the voice, also a known one: it may have been deleted. A store that is slow to write is not waited for
        when the voice is known."""
        if self._voice_is_ephemeral:
            return
        known = self._voice is not None and self._voice.voice_id == voice_id
        try:
            async with asyncio.timeout(_VOICE_PATIENCE_S if self._writes and known else None):
                self._voice = await self._voices.spoken(self.session.tenant, voice_id)
        except (*STORE_FAILURES, TimeoutError):
            if not known:
                raise
        if not known:
            self._on_voice(voice_id)

    def _amend(self, record: TurnRecord) -> asyncio.Task[Recording]:
        """Replace a turn of the history. If the store does not answer, it keeps the longer turn."""
        turns = tuple(record if old.turn_id == record.turn_id else old for old in self.session.turns)
        self.session = session = replace(self.session, turns=turns)
        return self._write(lambda: self._sessions.amend(session, record))

    async def _record(self, before: Session, after: Session) -> Session:
        """Record the last turn of `after`. A turn that the store does not take is noted as unrecorded."""
        try:
            if self._make_room is not None:
                await self._make_room(after)
            # `before` was made before the writes that came first, and one of these may have failed.
            return await self._sessions.record(replace(before, unrecorded=self.session.unrecorded), after)
        except STORE_FAILURES:
            unrecorded = self.session.unrecorded | {after.turns[-1].turn_id}
            self.session = replace(self.session, unrecorded=unrecorded)
            raise

    async def _place(self, before: Session, after: Session, records: Sequence[TurnRecord]) -> Session:
        """Write turns at their places. Turns that the store does not take are noted as unrecorded."""
        try:
            if self._make_room is not None:
                await self._make_room(after)
            return await self._sessions.place(before, after, records)
        except STORE_FAILURES:
            unrecorded = self.session.unrecorded | {record.turn_id for record in records}
            self.session = replace(self.session, unrecorded=unrecorded)
            raise

    def _write(self, write: Callable[[], Awaitable[Session]]) -> asyncio.Task[Recording]:
        """Change the store after the changes before. The task says what became of the change."""
        task = asyncio.create_task(self._write_in_order(write, self.session))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        return task

    async def _write_in_order(self, write: Callable[[], Awaitable[Session]], asked: Session) -> Recording:
        if not asked.session_id:
            return Recording.NOT_KEPT
        async with self._write_order:
            try:
                result = await write()
            except STORE_FAILURES:
                return Recording.UNRECORDED
            except NotFound:
                return Recording.NOT_KEPT
        # `self.session` may have changed since: only the store's sequence number is taken from the result.
        grown = result.sequence - asked.sequence
        self.session = replace(self.session, sequence=self.session.sequence + grown)
        return Recording.RECORDED
