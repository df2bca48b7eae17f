"""Conversations of the reasoner whose cached positions are compared with thinking without a cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from reference.thinker import think
from services.reasoner.messages import Audio, Commit, Text, Thought, TurnInput, TurnOpen
from services.reasoner.model.parts import AudioPart, Message, Piece, TextPart, TokenPart
from services.reasoner.model.prompt import ChatPrompt, ChatTemplate
from services.reasoner.model.thinker import Thinker
from services.reasoner.runner import Outputs, ThinkRunner
from services.reasoner.scheduler import Batch
from services.runtime.checkpoint.tokenizer import Tokenizer
from tests.support.thinking import Turn, ids_of, new_runner

THOUGHTS = 8
IM_END = 608
PAGE_SIZE = 8


class CountingRunner(ThinkRunner):
    """Counts the chunks that the tower encodes."""

    encoded_chunks = 0

    def step(self, batch: Batch) -> Outputs:
        self.encoded_chunks += len(batch.encode)
        return super().step(batch)


def runner_of(thinker: Thinker, tokenizer: Tokenizer, **limits: int) -> CountingRunner:
    """A runner over a small KV cache."""
    plain = new_runner(thinker, tokenizer, **limits)
    return CountingRunner(thinker, tokenizer, plain.kv, max_thoughts=64, max_prefill=limits.get("max_prefill", 32))


@dataclass
class Conversation:
    """One session's history, and its prompts laid out a second time to be thought cold."""

    template: ChatTemplate
    system_prompt: str | None = None
    history: list[Message] = field(default_factory=list)

    session_id: str = "session"
    scope: str = "tenant"
    system_prompt_is_common: bool = False

    def open(self, *, keep_prefix: bool = True, forced: bool = False) -> Turn:
        """The next turn of the session."""
        prompt = ChatPrompt(
            self.template,
            self.system_prompt,
            self.history,
            system_prompt_is_common=self.system_prompt_is_common or self.system_prompt is None,
        )
        opened = TurnOpen(
            forced=forced,
            max_thoughts=THOUGHTS,
            keep_prefix=keep_prefix,
            session_id=self.session_id,
            scope=self.scope,
        )
        return Turn(opened, prompt)

    def pieces(self, said: str | torch.Tensor) -> list[Piece]:
        """The whole prompt of a turn in which the user says this."""
        prompt = ChatPrompt(self.template, self.system_prompt, self.history)
        if isinstance(said, str):
            return [*prompt.text(said), *prompt.close()]
        return [*prompt.begin_audio(), AudioPart(said), *prompt.end_audio(), *prompt.close()]

    def add(self, said: str | torch.Tensor, spoken_ids: Sequence[int]) -> None:
        """Add a turn to the history, of whose reply these tokens were spoken."""
        part = TextPart(said) if isinstance(said, str) else AudioPart(said)
        self.history += [Message("user", (part,)), Message("assistant", (TokenPart(tuple(spoken_ids)),))]


def inputs(said: str | torch.Tensor) -> list[TurnInput]:
    """What the user says, and the commit."""
    return [Text(said) if isinstance(said, str) else Audio(said), Commit()]


def assert_as_cold(thinker: Thinker, pieces: list[Piece], thoughts: list[Thought]) -> None:
    """Hidden states within 1e-5, tokens equal; the margins say that they had to be."""
    clips = [piece.pcm for piece in pieces if isinstance(piece, AudioPart)]
    cold = think(thinker, ids_of(pieces), clips, len(thoughts))
    torch.testing.assert_close(torch.stack([t.hidden for t in thoughts]), cold.hidden, atol=1e-5, rtol=0)
    best, second = thinker.head(cold.hidden).topk(2).values.T
    assert (best - second).min() > 1e-4
    assert [thought.token_id for thought in thoughts] == cold.token_ids


def ids(thoughts: list[Thought]) -> list[int]:
    """The tokens of the thoughts."""
    return [thought.token_id for thought in thoughts]


def whole_pages(positions: int) -> int:
    """The count of cached positions that a turn reports for these."""
    return positions // PAGE_SIZE * PAGE_SIZE


def positions_cached_after(pieces: list[Piece], thoughts: list[Thought]) -> int:
    """Positions in the KV cache after a turn: the prompt's and those of all tokens but the last."""
    return len(ids_of(pieces)) + len(thoughts) - 1
