"""The tool calls in one reply, found token by token."""

from __future__ import annotations

import codecs
from collections import deque
from dataclasses import replace

from services.reasoner.messages import Thought
from services.reasoner.model.tools import ToolCall, ToolFormat, ToolUse, UnreadableCall
from services.runtime.checkpoint.tokenizer import Tokenizer


class ReplyCalls:
    """Tells the thoughts of calls from those of text.

    A reply that begins with a call's opening is held back from its first token on. When the opening is a control token,
    it ends the text wherever it comes. When it is ordinary text, thoughts wait until the reply's start is told from it.
    """

    def __init__(self, form: ToolFormat, use: ToolUse, tokenizer: Tokenizer, im_end_id: int) -> None:
        self.prescribed: deque[int] = deque(form.prescribed_ids(use.name) if use.choice == "required" else ())
        """The next tokens of the reply, whatever the model chooses."""
        self.is_complete = False
        """Whether the reply ends here, because it may hold one call only and has it."""
        self._form = form
        self._parallel = use.parallel
        self._tokenizer = tokenizer
        self._spelling = {token_id: text for text, token_id in tokenizer.special_ids.items()}
        self._im_end_id = im_end_id
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._begins_call: bool | None = None
        """Whether a call has begun. None: the reply's start does not tell yet."""
        self._is_first = True
        """Whether the next thought of a call is the first."""
        self._text = ""
        """The reply so far with its control tokens, from the start of the first call on once one has begun."""
        self._held: list[Thought] = []

    def push(self, token_id: int) -> None:
        """Note the next token."""
        if token_id == self._im_end_id:
            return
        spelt = self._spelling.get(token_id)
        piece = self._decoder.decode(self._tokenizer.token_bytes(token_id)) if spelt is None else spelt
        if self._begins_call is False:
            if token_id == self._form.token_id:
                self._begins_call, self._text = True, piece
            return
        self._text += piece
        if self._begins_call is None:
            self._text = self._text.lstrip()
            self._begins_call = self._form.begins(self._text)
        elif not self._parallel and "}" in piece:
            self.is_complete = self._form.has_call(self._text)

    def passed(self, thought: Thought) -> list[Thought]:
        """The thoughts to put out when this one was made."""
        self._held.append(thought)
        if self._begins_call is None and not thought.last:
            return []
        passed, self._held = self._held, []
        return [self._of_call(held) for held in passed] if self._begins_call else passed

    def result(self, *, is_cut: bool) -> tuple[tuple[ToolCall, ...], str]:
        """The calls of the ended reply, and why they cannot be read. `is_cut`: a limit ended it."""
        if not self._begins_call:
            return (), ""
        try:
            calls = self._form.calls_in(self._text, is_cut=is_cut)
        except UnreadableCall as error:
            return (), str(error)
        return tuple(calls if self._parallel else calls[:1]), ""

    def _of_call(self, thought: Thought) -> Thought:
        is_first, self._is_first = self._is_first, False
        token_id = self._im_end_id if is_first else thought.token_id
        return replace(thought, token_id=token_id, text="", is_call=True, is_spoken=is_first)
