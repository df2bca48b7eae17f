"""The tool calls of a conversation: their results, and calls of the past that a client adds or removes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from gateway.conversation.turns.active_turns import ActiveTurns
from gateway.conversation.turns.session_context import SessionContext
from gateway.store.records import ToolCall
from services.common.errors import FailedPrecondition, InvalidArgument


class ToolCalls:
    """Puts calls and results into the history, and into the running reply.

    `inject_reply` adds a reply of the past to the history, as the answer to the input so far.
    """

    def __init__(
        self,
        context: SessionContext,
        turns: ActiveTurns,
        inject_reply: Callable[[str], Awaitable[str]],
        *,
        max_chars: int,
    ) -> None:
        self._context = context
        self._turns = turns
        self._inject_reply = inject_reply
        self._max_chars = max_chars

    def answer(self, call_id: str, output: str) -> str:
        """Put the result of a call behind it. Returns the id of the turn that made the call.

        Raises InvalidArgument for an unknown call, and for too long a result.
        """
        if len(output) > self._max_chars:
            raise InvalidArgument(f"expected a result of at most {self._max_chars} characters, got {len(output)}")
        live = self._turns.reply_turn
        if live is not None and (call := live.turn.tool_calls.get(call_id)) is not None:
            live.turn.tool_calls[call_id] = replace(call, output=output)
            return live.turn.turn_id
        return self._context.answer(call_id, output)

    async def inject(self, call: ToolCall) -> str:
        """Add a call of the past to the history: to its last turn, or as the answer to the input so far. Returns the
        turn's id.

        Raises FailedPrecondition while a reply runs, InvalidArgument for too long a call.
        """
        chars = len(call.call_id) + len(call.name) + len(call.arguments)
        if chars > self._max_chars:
            raise InvalidArgument(f"expected a call of at most {self._max_chars} characters, got {chars}")
        if self._turns.reply_turn is not None:
            raise FailedPrecondition("history cannot be added while a reply runs")
        if self._turns.input_turn is not None or not (turn_id := self._context.add_call(call)):
            await self._inject_reply("")
            turn_id = self._context.add_call(call)
        return turn_id

    async def remove(self, call_id: str, *, output_only: bool) -> None:
        """Remove a call with its result, or the result alone, from the history. Raises Unavailable when the store still
        has it."""
        await self._context.remove_call(call_id, output_only=output_only)
