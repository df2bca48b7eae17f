"""One stream's turn inside the reasoner: from what the caller sends to prompt rows and the thoughts that follow."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

import torch

from services.common.errors import InvalidArgument, OutOfRange
from services.common.wire.audio import HEARING_RATE_HZ
from services.reasoner.messages import (
    Audio,
    Commit,
    Done,
    EndReason,
    GivenText,
    Heard,
    Text,
    Thought,
    TurnInput,
    TurnOpen,
)
from services.reasoner.model.given import GivenReply
from services.reasoner.model.prompt import AudioPart, Piece, identities_of
from services.reasoner.model.prompt_rows import PromptRows
from services.runtime.checkpoint.tokenizer import TextStream, Tokenizer

SLICE_SAMPLES = 2 * HEARING_RATE_HZ
"""Audio that one `advance` turns into mel frames."""

GIVEN_AHEAD_IDS = 256
"""Ids of a given reply held for thinking; beyond, its text waits in the inbox."""

CHARACTERS_PER_POSITION = 16
"""Text longer than this for each position of the model is refused before it is tokenised."""

THOUGHT_S = 0.16
"""Speech that one thought is: two frames."""


class Turn:
    """What the runner keeps for one stream.

    Listening, until the commit: rows are added to `prompt` and prefilled as they settle. Thinking, once the last row
    is prefilled: `emit` a thought for each hidden state. Ended, when `end_reason` is set.
    """

    def __init__(
        self,
        request: TurnOpen,
        rows: PromptRows,
        tokenizer: Tokenizer,
        *,
        slot: int,
        begin: Callable[[list[int]], int],
        im_end_id: int,
        max_thoughts: int,
        max_positions: int,
        opened_s: float,
    ) -> None:
        """`begin` starts `slot` of the KV memory with those of the given identities that are held, and counts them."""
        self.slot = slot
        self.rows = rows
        self.opened_s = opened_s
        self.committed_s: float | None = None
        self.heard: Heard | None = None
        """Set with the hidden state of the last prompt row."""
        self.first_thought_s: float | None = None
        self.token_ids: list[int] = []
        """The thoughts' tokens; all but the last are, or will be, rows after the prompt's."""
        self.token_id: int | None = None
        """The last thought's token, when its row is to be computed next."""
        self.waiting_hidden: torch.Tensor | None = None
        """[D] of a given reply whose next token has not come yet."""
        self.given_ids: deque[int] = deque()
        self.end_reason: EndReason | None = None
        self.kept_rows = 0
        """Leading rows already offered to later turns."""
        self._begin = begin
        self._begun = False
        self._prompt = request.prompt
        self._given = GivenReply(tokenizer, im_end_id) if request.given else None
        self.input_complete = False
        """Whether the end of the input was seen."""
        self._text = TextStream(tokenizer)
        self._im_end_id = im_end_id
        self._max_thoughts = max_thoughts
        self._max_positions = max_positions
        self._in_audio = False
        self._said_something = False
        self._audio_samples = 0
        self._characters = 0
        self._steps: deque[Callable[[], None]] = deque()
        if not request.given:  # a given reply may follow the history at once, without a turn of the user
            self._add(self._prompt.opening())

    @property
    def thoughts(self) -> int:
        """Thoughts so far."""
        return len(self.token_ids)

    @property
    def is_given(self) -> bool:
        """Whether the caller gives the reply's text."""
        return self._given is not None

    @property
    def has_backlog(self) -> bool:
        """Whether input was taken that has not become rows."""
        return bool(self._steps)

    @property
    def wants_input(self) -> bool:
        """Whether the next input should be taken now."""
        return not self._steps and len(self.given_ids) < GIVEN_AHEAD_IDS

    @property
    def committed(self) -> bool:
        """Whether the user's turn is complete, and wholly in `rows`."""
        return self.committed_s is not None and not self._steps

    @property
    def can_think(self) -> bool:
        """Whether the next thought needs nothing but a step."""
        return self.token_id is not None or (self.waiting_hidden is not None and bool(self.given_ids))

    def urgency(self) -> tuple[bool, float]:
        """Sorts turns that wait for their first thought: committed ones first, the longest waiting first."""
        return (self.committed_s is None, self.opened_s if self.committed_s is None else self.committed_s)

    def due_s(self) -> float:
        """When the listener needs the next thought, if speech began with the first one."""
        return (self.first_thought_s or 0.0) + self.thoughts * THOUGHT_S

    def take(self, item: TurnInput, now_s: float) -> None:
        """Accept one input; its work waits in the backlog. Raises InvalidArgument when it is out of order."""
        if self.committed_s is not None and not isinstance(item, GivenText):
            raise InvalidArgument(f"expected no {type(item).__name__.lower()} after the commit")
        match item:
            case Audio():
                self._take_audio(item)
            case Text():
                self._take_text(item.text)
            case Commit():
                self._end_audio()
                if not self._said_something and self._given is None:
                    raise InvalidArgument("the turn is empty: expected audio or text before the commit")
                self._add(self._prompt.close())
                self.committed_s = now_s
            case GivenText():
                if self._given is None or self.committed_s is None:
                    raise InvalidArgument("given text must follow the commit of a turn opened with a given reply")
                self.given_ids += self._given.push(item.text)

    def end_input(self) -> None:
        """No input will follow. Raises InvalidArgument when the turn was never committed."""
        if self.committed_s is None:
            raise InvalidArgument("the stream ended without a commit")
        self.input_complete = True
        if self._given is not None:
            self.given_ids += self._given.finish()

    def advance(self) -> int:
        """Work off one piece of the backlog. Returns the samples of audio in it, at most `SLICE_SAMPLES`.

        Raises InvalidArgument for audio that cannot be heard; OutOfRange when the prompt outgrows the positions.
        """
        samples_before = self.rows.samples
        self._steps.popleft()()
        if self.rows.total > self._max_positions:
            raise OutOfRange(
                f"the conversation takes {self.rows.total} positions or more, the reasoner has {self._max_positions}: "
                "drop the oldest turns"
            )
        return self.rows.samples - samples_before

    def emit(self, token_id: int, hidden: torch.Tensor, now_s: float) -> Thought:
        """The thought of `hidden` [D]. Sets `end_reason` when it is the last."""
        heard = self._hear_out(now_s)
        if self.first_thought_s is None:
            self.first_thought_s = now_s
        index = self.thoughts
        self.token_ids.append(token_id)
        if token_id == self._im_end_id:
            self.end_reason = "given" if self.is_given else "eos"
        elif self.thoughts == self._max_thoughts:
            self.end_reason = "limit"
        elif self.rows.total + index == self._max_positions:
            self.end_reason = "positions"
        last = self.end_reason is not None
        self.token_id = None if last else token_id
        self.waiting_hidden = None
        text = self._text.push(token_id)
        text = text + self._text.finish() if last else text
        return Thought(index, token_id, text, hidden, last, heard if index == 0 else None)

    def wait_with(self, hidden: torch.Tensor, now_s: float) -> None:
        """Keep hidden [D] until the given reply's next token comes."""
        self._hear_out(now_s)
        self.token_id = None
        self.waiting_hidden = hidden

    def done(self) -> Done:
        """What the ended turn took."""
        assert self.end_reason is not None, "the turn has ended"
        assert self.heard is not None, "the turn has thoughts"
        return Done(
            reason=self.end_reason,
            prompt_tokens=self.heard.prompt_tokens,
            cached_tokens=self.heard.cached_tokens,
            prefill_s=self.heard.prefill_s,
            audio_s=self._audio_samples / HEARING_RATE_HZ,
            redone_chunks=self.rows.redone_chunks,
        )

    def _hear_out(self, now_s: float) -> Heard:
        """What hearing took: all prompt rows are computed, the last of them just now if this is the first call."""
        if self.heard is None:
            assert self.committed_s is not None, "the turn was committed"
            self.heard = Heard(self.rows.total, self.rows.held, now_s - self.committed_s)
        return self.heard

    def _take_audio(self, item: Audio) -> None:
        if not self._in_audio:
            self._add(self._prompt.begin_audio())
            self._steps.append(self.rows.begin_clip)
            self._in_audio = self._said_something = True
        self._audio_samples += item.pcm.shape[0]
        self._hear(item.pcm)
        if item.end_of_part:
            self._end_audio()

    def _take_text(self, text: str) -> None:
        self._characters += len(text)
        if self._characters > CHARACTERS_PER_POSITION * self._max_positions:
            raise OutOfRange(
                f"the turn has {self._characters} characters of text or more, expected at most "
                f"{CHARACTERS_PER_POSITION * self._max_positions}"
            )
        self._end_audio()
        self._said_something = self._said_something or bool(text)
        self._add(self._prompt.text(text))

    def _end_audio(self) -> None:
        if self._in_audio:
            self._in_audio = False
            self._steps.append(self.rows.end_clip)
            self._add(self._prompt.end_audio())

    def _hear(self, pcm: torch.Tensor) -> None:
        self._steps.extend(partial(self.rows.hear, part) for part in pcm.split(SLICE_SAMPLES))

    def _add(self, pieces: list[Piece]) -> None:
        """Lay out more of the prompt. Its last row is computed in any case: the first thought is read from it."""
        held = 0
        if pieces and not self._begun:
            self._begun = True
            held = self.rows.held = self._begin(identities_of(pieces)[:-1])
        for piece in pieces:
            if not isinstance(piece, AudioPart):
                self._steps.append(partial(self.rows.add_ids, piece))
                held -= len(piece)
                continue
            held -= len(piece.identities)
            if held >= 0:
                self._steps.append(partial(self.rows.add_held_clip, piece.identities))
            else:
                self._steps.append(self.rows.begin_clip)
                self._hear(piece.pcm)
                self._steps.append(self.rows.end_clip)
