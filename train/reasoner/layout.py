"""A conversation as the thinker sees it, laid out by the very code that serves (services/reasoner/model/prompt.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from services.common.errors import InvalidArgument
from services.reasoner.model.mel import MelFilters
from services.reasoner.model.prompt import (
    AudioPart,
    ChatPrompt,
    ChatTemplate,
    Message,
    Part,
    Piece,
    TextPart,
    TokenPart,
)
from services.runtime.checkpoint.config import TokenIds
from services.runtime.checkpoint.tokenizer import Tokenizer
from train.hearing.auxiliary_tasks import spell
from train.hearing.clip_batch import HeardClip
from train.hearing.clip_features import clip_features
from train.reasoner.conversation_batch import LaidOut


@dataclass(frozen=True)
class Recording:
    """A recording: float32 [S] at 16 kHz, its text (empty if it is not speech), and the number of its subject."""

    pcm: torch.Tensor
    text: str
    subject: int


Said = str | Recording
"""Typed text, or a recording."""


class Layout:
    """Lays out conversations for one tokenizer."""

    def __init__(self, tokenizer: Tokenizer, tokens: TokenIds, mel: MelFilters) -> None:
        self._tokenizer = tokenizer
        self._tokens = tokens
        self._mel = mel
        self._template = ChatTemplate(tokenizer, audio_id=tokens.audio, im_end_id=tokens.im_end)

    def __call__(
        self, turns: Sequence[tuple[Said, str]], *, system_prompt: str | None = None, greeting: str | None = None
    ) -> LaidOut:
        """Rows and targets of a conversation whose turns are (what the user says, what Chroma replies).

        Every reply is a target, not only the last: each is what the thinker must answer to what stands before it.
        """
        replies = [self.reply_ids(reply) for _, reply in turns]
        greetings = [] if greeting is None else [self.reply_ids(greeting)]
        history = [Message("assistant", (TokenPart(tuple(ids)),)) for ids in greetings]
        for (said, _), reply in zip(turns[:-1], replies[:-1], strict=True):
            history += [Message("user", (_part(said),)), Message("assistant", (TokenPart(tuple(reply)),))]
        prompt = ChatPrompt(self._template, system_prompt, history)
        pieces = [*prompt.opening(), *_last_turn(prompt, turns[-1][0]), replies[-1][:-1]]
        ids, ends = self._place(pieces, [*greetings, *replies])
        target_at = [
            at
            for reply, end in zip(replies, ends[len(greetings) :], strict=True)
            for at in range(end - len(reply), end)
        ]
        clips = [self.hear(said) for said, _ in turns if not isinstance(said, str)]
        return LaidOut(ids, target_at, [token for reply in replies for token in reply], clips)

    def hear(self, recording: Recording) -> HeardClip:
        """What the tower sees of a recording, and what it should make of it."""
        return HeardClip(clip_features(recording.pcm, self._mel), spell(recording.text), recording.subject)

    def reply_ids(self, text: str) -> list[int]:
        """The tokens that the thinker must choose to say `text`, im_end last."""
        return [*self._tokenizer.encode(text), self._tokens.im_end]

    def _place(self, pieces: Sequence[Piece], replies: Sequence[list[int]]) -> tuple[list[int], list[int]]:
        """The rows of `pieces`, and behind which row each of `replies` ends. Replies are pieces of their own."""
        ids: list[int] = []
        ends: list[int] = []
        for piece in pieces:
            if isinstance(piece, AudioPart):
                ids += [self._tokens.audio] * len(piece.keys)
                continue
            ids += piece
            if len(ends) < len(replies) and piece == replies[len(ends)][:-1]:
                ends.append(len(ids))
        if len(ends) != len(replies):
            raise InvalidArgument("the chat template drops or changes a reply of the conversation")
        return ids, ends


def _part(said: Said) -> Part:
    return TextPart(said) if isinstance(said, str) else AudioPart(said.pcm)


def _last_turn(prompt: ChatPrompt, said: Said) -> list[Piece]:
    """The turn that is to be answered, as services/reasoner/request.py lays it out."""
    if isinstance(said, str):
        return [*prompt.text(said), *prompt.close()]
    return [*prompt.begin_audio(), AudioPart(said.pcm), *prompt.end_audio(), *prompt.close()]
