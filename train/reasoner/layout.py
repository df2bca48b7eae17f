"""The thinker's input for whole conversations, laid out with services/reasoner/model/prompt.py like in the service."""

from __future__ import annotations

from collections.abc import Sequence

from services.common.errors import InvalidArgument
from services.reasoner.model.mel import MelFilters
from services.reasoner.model.parts import AudioPart, Message, Part, Piece, TextPart, TokenPart
from services.reasoner.model.prompt import ChatPrompt, ChatTemplate
from services.runtime.checkpoint.config import TokenIds
from services.runtime.checkpoint.tokenizer import Tokenizer
from train.hearing.clip_features import Recording, labelled_clip
from train.reasoner.conversation_batch import LaidOut

UserInput = str | Recording
"""Typed text, or a recording."""


class Layout:
    """Lays out conversations with one tokenizer."""

    def __init__(self, tokenizer: Tokenizer, tokens: TokenIds, mel: MelFilters) -> None:
        self._tokenizer = tokenizer
        self._tokens = tokens
        self._mel = mel
        self._template = ChatTemplate(tokenizer, audio_id=tokens.audio, im_end_id=tokens.im_end)

    def __call__(
        self, turns: Sequence[tuple[UserInput, str]], *, system_prompt: str | None = None, greeting: str | None = None
    ) -> LaidOut:
        """The token ids and targets of a conversation; each turn is the user's input and Chroma's reply.

        The tokens of every reply are targets, not only those of the last one. Raises `InvalidArgument` when the chat
        template changes a reply.
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
        clips = [labelled_clip(said, self._mel) for said, _ in turns if not isinstance(said, str)]
        return LaidOut(ids, target_at, [token for reply in replies for token in reply], clips)

    def reply_ids(self, text: str) -> list[int]:
        """The tokens of the reply `text`, with im_end at the end."""
        return [*self._tokenizer.encode(text), self._tokens.im_end]

    def _place(self, pieces: Sequence[Piece], replies: Sequence[list[int]]) -> tuple[list[int], list[int]]:
        """The token ids of `pieces`, and the index after each of `replies`. Each reply is one of the pieces."""
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


def _part(said: UserInput) -> Part:
    return TextPart(said) if isinstance(said, str) else AudioPart(said.pcm)


def _last_turn(prompt: ChatPrompt, said: UserInput) -> list[Piece]:
    """The user's last turn, laid out like in services/reasoner."""
    if isinstance(said, str):
        return [*prompt.text(said), *prompt.close()]
    return [*prompt.begin_audio(), AudioPart(said.pcm), *prompt.end_audio(), *prompt.close()]
