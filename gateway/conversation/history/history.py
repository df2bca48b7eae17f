"""The history of a conversation as its client edits it: messages put at any place, taken apart and removed.

The history is a list of turns. A message that the client puts between two others is a turn of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gateway.conversation.backend import Backend
from gateway.conversation.input.input_turn import InputTurn, new_turn_id
from gateway.conversation.turns.active_turns import ActiveTurns
from gateway.conversation.turns.session_context import SessionContext, check_recorded
from gateway.pipeline.turn_input import UserInput
from gateway.settings import GatewaySettings
from gateway.store.records import TurnRecord
from services.common.errors import FailedPrecondition, InvalidArgument
from services.common.wire.pcm import check_whole


class History:
    """Edits the history. An edit of a turn whose reply runs is refused, except for its removal."""

    def __init__(self, context: SessionContext, turns: ActiveTurns, input_turn: InputTurn, backend: Backend) -> None:
        self._context = context
        self._turns = turns
        self._input = input_turn
        self._backend = backend
        self._limits: GatewaySettings = backend.settings

    @property
    def turns(self) -> tuple[TurnRecord, ...]:
        """The turns of the past, oldest first."""
        return self._context.session.turns

    def with_input(self) -> tuple[TurnRecord, ...]:
        """The turns of the past, and the input so far without audio under way."""
        return (*self.turns, self._input.copy()) if self._input.has_whole_parts else self.turns

    def turn(self, turn_id: str) -> TurnRecord | None:
        """Return a turn of the past, or the input so far. None: there is no such turn, or its reply runs."""
        return next((turn for turn in self.with_input() if turn.turn_id == turn_id), None)

    async def append_reply(self, text: str) -> str:
        """Add a reply of the past at the end, as the answer to the input so far. Returns the turn's id.

        Raises FailedPrecondition while a reply runs, InvalidArgument for too long a text.
        """
        reply = self.reply(text)
        if self._turns.reply_turn is not None:
            raise FailedPrecondition("history cannot be added while a reply runs")
        if self._input.has_whole_parts:
            record = await self._input.take()
            reply = replace(record, texts=reply.texts, heard_tokens=1)
        _, written = self._context.add_turn(reply)
        await written
        return reply.turn_id

    def reply(self, text: str) -> TurnRecord:
        """Return a reply of the past as a turn of its own. Raises InvalidArgument for too long a text."""
        if len(text) > self._limits.max_input_chars:
            raise InvalidArgument(
                f"expected a reply of at most {self._limits.max_input_chars} characters, got {len(text)}"
            )
        return TurnRecord(new_turn_id(), texts=(text,), heard_tokens=1)

    def message(self, parts: Sequence[str | bytes]) -> TurnRecord:
        """Return a message of the user, texts and recordings in the client's format, as a turn of its own.

        Raises InvalidArgument for a recording when the conversation has no audio and for broken samples, OutOfRange for
        a message beyond the limits of a turn.
        """
        limits = self._limits
        source = UserInput(
            self._input.options.input_format, max_audio_s=limits.max_input_s, max_chars=limits.max_input_chars
        )
        for part in parts:
            if isinstance(part, str):
                source.add_text(part)
            else:
                check_whole(part, self._input.check_has_audio().encoding)
                source.add_audio(part)
                source.end_audio()
        source.check()
        self._input.uncounted_s += source.take_uncounted_s()
        user = tuple(part if isinstance(part, str) else bytes(part) for part in source.parts)
        return TurnRecord(new_turn_id(), user, source.encoding, source.audio_s)

    async def insert(self, record: TurnRecord, after: str) -> None:
        """Put a turn of the past after the turn `after`, or before all turns when there is no such turn.

        Raises OutOfRange when the history has no room at that place.
        """
        self._check_is_past(after)
        await self._context.insert([record], after)

    async def separate(self, turn_id: str, counts: Sequence[int]) -> list[str]:
        """Make turns of their own of the user's messages in a turn, which have so many parts each, and of its reply.

        The turn may be the input turn: its input becomes a part of the history, without audio under way. Returns the
        ids of the turns of the messages and of the reply, in order. Raises FailedPrecondition while the turn's reply
        runs.
        """
        self._check_is_past(turn_id)
        turns = self._context.session.turns
        if self.is_input(turn_id):
            if not self._input.has_whole_parts:
                return []
            record, after = await self._input.take(), turns[-1].turn_id if turns else ""
        elif (found := self._context.find(turn_id)) is not None and turn_id:
            record, at = found, turns.index(found)
            after = turns[at - 1].turn_id if at else ""
        else:
            return []
        separated = record.separated(counts, [new_turn_id() for _ in range(len(counts) + 1)])
        await self._context.insert(separated, after)
        return [turn.turn_id for turn in separated]

    async def remove(self, turn_id: str, *, user: bool) -> bool:
        """Remove the user's side of a turn, or its reply, from the history or from the input turn. A running reply is
        interrupted first. False if there is no such turn.

        Raises Unavailable when the store still has it.
        """
        if self.is_input(turn_id):
            if not self._input.source().is_audio_open:
                await self._turns.drop_input()
            elif self._input.has_whole_parts:
                await self._input.take()
            return True
        if self._is_running(turn_id):
            await self._turns.interrupt()
        removed = await self._context.remove(turn_id, user=user)
        if removed and self._context.session.session_id:
            self._backend.eraser.item()
        return removed

    async def shorten(self, heard_samples: int, turn_id: str) -> None:
        """Keep only what the user heard of a reply. Raises Unavailable when the store did not take the change."""
        if (recording := self._context.shorten(heard_samples, turn_id)) is not None:
            check_recorded(await recording)

    def is_input(self, turn_id: str) -> bool:
        """Whether this is the input turn, which follows all turns of the past."""
        return self._input.has_begun and self._input.turn_id == turn_id

    def _check_is_past(self, turn_id: str) -> None:
        if self._is_running(turn_id):
            raise FailedPrecondition("the history cannot be changed within a turn whose reply runs")

    def _is_running(self, turn_id: str) -> bool:
        live = self._turns.reply_turn
        return live is not None and live.turn.turn_id == turn_id
