"""One turn inside the reasoner's engine: what has come in, what is to be done next, what has been emitted."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from services.common.errors import InvalidArgument, OutOfRange
from services.common.wire.audio import HEARING_RATE_HZ
from services.reasoner.messages import (
    Audio,
    Commit,
    Conversation,
    Done,
    EndReason,
    ForcedText,
    Prompt,
    PromptUsage,
    Text,
    Thought,
    TurnInput,
    TurnOpen,
    TurnOutput,
)
from services.reasoner.model.forced_text import ForcedText as ForcedTextTokens
from services.reasoner.model.parts import Piece, keys_of
from services.reasoner.model.prompt_embeddings import (
    AddSamples,
    BeginClip,
    EndClip,
    PromptEdit,
    PromptEmbeddings,
    edits_of,
    samples_of,
)
from services.reasoner.reply_calls import ReplyCalls
from services.runtime.checkpoint.tokenizer import TextStream, Tokenizer
from services.runtime.engine.stream import Stream
from services.runtime.kvcache.prefix_cache import Sharing

MAX_FORCED_IDS = 256
"""Ids of forced text that a request holds. Further text waits in the inbox."""

CHARACTERS_PER_POSITION = 16
"""Text longer than this for each position of the model is refused before it is tokenised. It is three to four times the
mean of ordinary text."""

SPEECH_S_PER_THOUGHT = 0.16
"""Two frames of speech."""

ThinkStream = Stream[TurnOpen, TurnInput, TurnOutput]


class Request:
    """The state of one stream.

    It prefills until the last position of the committed prompt is computed, then decodes: it emits one thought for
    each hidden state, until `end_reason` is set.

    A preempted request has given up its KV pages. It keeps what came in, the tokens it emitted and the hidden state of
    a forced reply that waits for text. `restart` makes the same positions again from these; a caller sees a pause.
    """

    def __init__(
        self,
        opened: TurnOpen,
        tokenizer: Tokenizer,
        *,
        slot: int,
        new_prompt: Callable[[int], PromptEmbeddings],
        match_prefix: Callable[[list[int], Sharing], int],
        page_size: int,
        im_end_id: int,
        max_thoughts: int,
        max_positions: int,
        opened_s: float,
    ) -> None:
        """
        Args:
            new_prompt: makes empty prompt embeddings for the number of positions that the KV cache holds.
            match_prefix: starts the slot with the longest cached prefix of some keys. Returns its positions.
            page_size: positions of a page of the KV cache, to which the count of cached positions is rounded down.
        """
        self.slot = slot
        self.prompt = new_prompt(0)
        self.keep_prefix = opened.keep_prefix
        self.erase_at_end = opened.erase_at_end
        self.sharing = Sharing(opened.scope, opened.session_id)
        """What it may share with other turns. The common positions are known with the first pieces of the prompt."""
        self.opened_s = opened_s
        self.committed_s: float | None = None
        self.input_complete = False
        """Whether the end of the input was taken."""
        self.usage: PromptUsage | None = None
        """Set with the hidden state of the prompt's last position."""
        self.first_thought_s: float | None = None
        self.token_ids: list[int] = []
        """The tokens of the thoughts. All but the last are, or will be, positions after the prompt's."""
        self.token_id: int | None = None
        """The token of the last thought while its position is not computed yet."""
        self.waiting_hidden: torch.Tensor | None = None
        """[D]: the hidden state of a forced reply whose next token has not come yet."""
        self.forced_ids: deque[int] = deque()
        self.end_reason: EndReason | None = None
        self.kept_positions = 0
        """Leading positions that were offered to later turns."""
        self.pending: deque[PromptEdit] = deque()
        """Edits that `prompt` has not applied yet."""
        self.decoding = False
        self.preempted = False
        self.preempted_length = 0
        """Positions that the KV memory held at the last preemption."""
        self._new_prompt = new_prompt
        self._match_prefix = match_prefix
        self._page_size = page_size
        self._tokenizer = tokenizer
        self._layout: Prompt | None = None
        self._received: list[Piece | PromptEdit] = []
        """All that the prompt is made of, to make it again after a preemption."""
        self._forced = ForcedTextTokens(tokenizer, im_end_id) if opened.forced else None
        self._text = TextStream(tokenizer)
        form, use = opened.tool_format, opened.tool_use
        self.banned_id = form.token_id if form is not None and use.choice == "none" else None
        """The token that begins a call, which the reply must not have. None: it may have any."""
        self._calls: ReplyCalls | None = None
        """None: the reply has no calls of tools."""
        if form is not None and use.choice != "none" and not opened.forced:
            self._calls = ReplyCalls(form, use, tokenizer, im_end_id)
        self._im_end_id = im_end_id
        self._max_thoughts = max_thoughts
        self._max_positions = max_positions
        self._in_audio = False
        self._is_empty = True
        self._audio_samples = 0
        self._characters = 0
        self._known_keys: list[int] = []
        """`keys` at the last preemption."""
        self._replayed = 0
        """Thoughts whose tokens a restart appended to the prompt."""
        self._recomputed_chunks = 0
        """Of the prompts before the last restart."""

    @property
    def is_forced(self) -> bool:
        """Whether the caller writes the reply."""
        return self._forced is not None

    @property
    def wants_input(self) -> bool:
        """Whether the next input should be taken now."""
        return not self.preempted and not self.pending and len(self.forced_ids) < MAX_FORCED_IDS

    @property
    def committed(self) -> bool:
        """Whether the user's turn is complete and wholly in `prompt`."""
        return self.committed_s is not None and not self.pending

    @property
    def can_decode(self) -> bool:
        """Whether a step can make the next thought."""
        return self.decoding and (
            self.token_id is not None or (self.waiting_hidden is not None and bool(self.forced_ids))
        )

    @property
    def keys(self) -> list[int]:
        """Cache keys of the prompt's positions so far and, once it decodes, of the thoughts' tokens after them."""
        return [*self.prompt.keys, *(self.token_ids[self._replayed :] if self.decoding else [])]

    @property
    def recomputed_chunks(self) -> int:
        """Chunks encoded again because a later part of their recording was louder."""
        return self._recomputed_chunks + self.prompt.recomputed_chunks

    def urgency(self) -> tuple[bool, float]:
        """Sorts requests that prefill: committed ones first, then those that wait longest."""
        return (self.committed_s is None, self.opened_s if self.committed_s is None else self.committed_s)

    def due_s(self) -> float:
        """When playback needs the next thought, if speech began with the first one."""
        return (self.first_thought_s or 0.0) + len(self.token_ids) * SPEECH_S_PER_THOUGHT

    def take(self, item: TurnInput, now_s: float) -> None:
        """Accept one input and queue the edits it makes.

        Raises:
            InvalidArgument: an input out of order, or an empty turn.
            OutOfRange: more text than the positions could hold.
        """
        if self.committed_s is not None and not isinstance(item, ForcedText):
            raise InvalidArgument(f"expected no {type(item).__name__.lower()} after the commit")
        if isinstance(item, Conversation):
            self._layout = item.prompt
            return
        layout = self._layout
        assert layout is not None, "the conversation is the first input"
        if isinstance(item, Audio | Text):  # without a turn of the user, the reply follows the history at once
            self._begin(layout.opening())
        match item:
            case Audio():
                self._take_audio(item, layout)
            case Text():
                self._take_text(item.text, layout)
            case Commit():
                self._end_audio(layout)
                if self._received and self._is_empty and not self.is_forced:
                    raise InvalidArgument("the turn is empty: expected audio or text before the commit")
                self._begin(layout.close())
                self.committed_s = now_s
            case ForcedText():
                if self._forced is None or self.committed_s is None:
                    raise InvalidArgument("given text must follow the commit of a turn opened with a given reply")
                self._count_characters(item.text)
                self.forced_ids += self._forced.push(item.text)

    def end_input(self) -> None:
        """No input will follow. Raises InvalidArgument when the turn was never committed."""
        if self.committed_s is None:
            raise InvalidArgument("the stream ended without a commit")
        self.input_complete = True
        if self._forced is not None:
            self.forced_ids += self._forced.finish()

    def apply_next(self) -> int:
        """Apply one pending edit. Returns the samples of audio in it.

        Raises what `PromptEmbeddings.apply` raises, and OutOfRange when the prompt outgrows the positions.
        """
        edit = self.pending.popleft()
        self.prompt.apply(edit)
        if self.prompt.length > self._max_positions:
            raise OutOfRange(
                f"the conversation takes {self.prompt.length} positions or more, the reasoner has "
                f"{self._max_positions}: drop the oldest turns, or shorten the system prompt or the turn"
            )
        return edit.pcm.shape[0] if isinstance(edit, AddSamples) else 0

    def preempt(self, length: int) -> None:
        """Note that the KV pages of all `length` computed positions were given up."""
        self._known_keys = self.keys
        self.preempted_length = length
        self.preempted, self.decoding = True, False

    def forget(self) -> None:
        """Leave nothing to later turns."""
        self.keep_prefix, self.erase_at_end = False, True

    def restart(self) -> None:
        """Queue everything again after a preemption: what came in, then the tokens of the thoughts so far.

        The prompt's last position is not taken from the cache before the first thought, which needs its hidden state.
        """
        computed = len(self.token_ids) - (self.token_id is not None)
        keys = self._known_keys[: self.preempted_length]
        self._recomputed_chunks += self.prompt.recomputed_chunks
        self.prompt = self._new_prompt(self._match_prefix(keys if self.usage else keys[:-1], self.sharing))
        self.pending = deque(edits_of([*self._received, self.token_ids[:computed]], self.prompt.cached))
        self._replayed = computed
        self.kept_positions = 0
        self.preempted = False

    def conclude_prompt(self, now_s: float) -> None:
        """Note that all positions of the prompt are computed, the last of them just now."""
        self.decoding = True
        if self.usage is None:
            assert self.committed_s is not None, "the turn was committed"
            cached = self.prompt.cached // self._page_size * self._page_size
            self.usage = PromptUsage(self.prompt.length, cached, now_s - self.committed_s)

    def emit(self, token_id: int, hidden: torch.Tensor, now_s: float) -> list[Thought]:
        """The thoughts to put out for a token and its hidden state [D]. Sets `end_reason` when it is the last.

        There is one, unless thoughts wait until the reply's start is told from that of a tool call.
        """
        assert self.usage is not None, "the prompt is computed"
        if self.first_thought_s is None:
            self.first_thought_s = now_s
        if self._calls is not None:
            if self._calls.prescribed:
                token_id = self._calls.prescribed.popleft()
            self._calls.push(token_id)
        index = len(self.token_ids)
        self.token_ids.append(token_id)
        if token_id == self._im_end_id:
            self.end_reason = "forced" if self.is_forced else "eos"
        elif self._calls is not None and self._calls.is_complete:
            self.end_reason = "eos"
        elif len(self.token_ids) == self._max_thoughts:
            self.end_reason = "limit"
        elif self.usage.prompt_tokens + index == self._max_positions:
            self.end_reason = "positions"
        last = self.end_reason is not None
        self.token_id = None if last else token_id
        self.waiting_hidden = None
        text = self._text.push(token_id)
        text = text + self._text.finish() if last else text
        thought = Thought(index, token_id, text, hidden, last, self.usage if index == 0 else None)
        return [thought] if self._calls is None else self._calls.passed(thought)

    def wait_with(self, hidden: torch.Tensor) -> None:
        """Keep hidden [D] until the next token of the forced text comes."""
        self.token_id = None
        self.waiting_hidden = hidden

    def done(self) -> Done:
        """What the ended turn took."""
        assert self.end_reason is not None, "the turn has ended"
        assert self.usage is not None, "the turn has thoughts"
        is_cut = self.end_reason in ("limit", "positions")
        calls, unreadable_call = ((), "") if self._calls is None else self._calls.result(is_cut=is_cut)
        return Done(
            reason=self.end_reason,
            usage=self.usage,
            audio_s=self._audio_samples / HEARING_RATE_HZ,
            recomputed_chunks=self.recomputed_chunks,
            calls=calls,
            unreadable_call=unreadable_call,
        )

    def _take_audio(self, item: Audio, layout: Prompt) -> None:
        if not self._in_audio:
            self._begin(layout.begin_audio())
            self._add([BeginClip()])
            self._in_audio, self._is_empty = True, False
        self._audio_samples += item.pcm.shape[0]
        self._add(list(samples_of(item.pcm)))
        if item.end_of_part:
            self._end_audio(layout)

    def _take_text(self, text: str, layout: Prompt) -> None:
        self._count_characters(text)
        self._end_audio(layout)
        self._is_empty = self._is_empty and not text
        self._begin(layout.text(text))

    def _count_characters(self, text: str) -> None:
        """Add to the turn's text, its given reply included. Raises OutOfRange for more than the positions can hold."""
        self._characters += len(text)
        if self._characters > CHARACTERS_PER_POSITION * self._max_positions:
            raise OutOfRange(
                f"the turn has {self._characters} characters of text or more, expected at most "
                f"{CHARACTERS_PER_POSITION * self._max_positions}"
            )

    def _end_audio(self, layout: Prompt) -> None:
        if self._in_audio:
            self._in_audio = False
            self._add([EndClip(), *layout.end_audio()])

    def _begin(self, pieces: list[Piece]) -> None:
        """Add pieces. The first ones are looked up in the KV cache, without the last position: it may be the prompt's
        last, whose hidden state gives the first thought."""
        if pieces and not self._received:
            assert self._layout is not None, "the conversation is the first input"
            self.sharing = replace(self.sharing, common=self._layout.common_positions)
            self.prompt = self._new_prompt(self._match_prefix(keys_of(pieces)[:-1], self.sharing))
            self.pending.extend(edits_of(pieces, self.prompt.cached))
            self._received += pieces
        else:
            self._add(pieces)

    def _add(self, parts: Sequence[Piece | PromptEdit]) -> None:
        """Queue more of the prompt."""
        self.pending.extend(edits_of(parts))
        self._received += parts
