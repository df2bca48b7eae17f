"""A conversation laid out by the checkpoint's own chat template, as pieces: token ids and recordings.

The template is rendered with a marker in the place of every part. So what people say is data: it is tokenised as
plain text, and `<|im_end|>` typed by a user is ten characters of text, not a control token. Past replies are inserted
as the ids that the thinker chose. They are never tokenised again. (docs/model.md, section 7)

A prompt is built while the turn arrives. Everything before the user's first word is known at once, and everything
before a recording is known before the recording ends. So it can be prefilled while the user speaks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import jinja2
import torch
from jinja2.sandbox import ImmutableSandboxedEnvironment

from services.common.errors import CheckpointError, InvalidArgument
from services.reasoner.model.clip import clip_keys
from services.runtime.checkpoint.tokenizer import Tokenizer


@dataclass(frozen=True)
class TextPart:
    """Plain text of a message."""

    text: str


@dataclass(frozen=True)
class TokenPart:
    """Token ids of the checkpoint's vocabulary: a past reply."""

    ids: tuple[int, ...]


@dataclass(frozen=True)
class AudioPart:
    """A recording of the user: float32 [S] at 16 kHz."""

    pcm: torch.Tensor
    keys: list[int] = field(init=False, repr=False)
    """Cache keys of its positions."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", clip_keys(self.pcm))


Part = TextPart | TokenPart | AudioPart

Piece = list[int] | AudioPart
"""Token ids, or a whole recording."""


@dataclass(frozen=True)
class Message:
    """One past message of the conversation."""

    role: Literal["user", "assistant"]
    parts: tuple[Part, ...]


_MARKER = re.compile("\ue000(\\d+)\ue001")
_AUDIO: dict[str, str] = {"type": "audio", "audio": ""}


def keys_of(pieces: Sequence[Piece]) -> list[int]:
    """Cache keys of the positions that the pieces become. A token's key is its id."""
    return [key for piece in pieces for key in (piece.keys if isinstance(piece, AudioPart) else piece)]


def _marker(number: int) -> dict[str, str]:
    return {"type": "text", "text": f"\ue000{number}\ue001"}


class _Refused(Exception):
    """The template called `raise_exception`: it does not lay out this conversation."""


class ChatTemplate:
    """The chat template of one checkpoint. Read-only, so any thread may use it."""

    def __init__(self, tokenizer: Tokenizer, *, audio_id: int, im_end_id: int) -> None:
        """Compile the template and lay out one conversation of each kind that a request may have.

        Raises CheckpointError, in one line, when the template is missing, cannot be read, knows no audio, drops or
        repeats a part, or fails in any other way. It may refuse a kind of conversation by `raise_exception`.
        """
        spelt = [text for text, token_id in tokenizer.special_ids.items() if token_id == audio_id]
        if not spelt:
            raise CheckpointError(f"the tokenizer has no control token for audio_token_index {audio_id}")
        self.tokenizer = tokenizer
        self.audio_text = spelt[0]
        self.im_end_id = im_end_id
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = _refuse
        try:
            self._template = environment.from_string(tokenizer.chat_template)
        except jinja2.TemplateError as error:
            raise CheckpointError(f"the chat template cannot be read: {_one_line(error)}") from error
        self._check()

    def render(self, messages: list[dict[str, Any]], *, add_generation_prompt: bool = False) -> str:
        """The conversation as text.

        Raises InvalidArgument when the template refuses the conversation, CheckpointError when the template fails.
        """
        try:
            return self._template.render(messages=messages, add_generation_prompt=add_generation_prompt)
        except _Refused as error:
            raise InvalidArgument(
                f"the checkpoint's chat template refuses this conversation: {_one_line(error)}"
            ) from error
        except Exception as error:  # a template is a program of the checkpoint's author: it can raise anything
            raise CheckpointError(
                f"the chat template fails on a conversation: {type(error).__name__}: {_one_line(error)}"
            ) from error

    def _check(self) -> None:
        if self.audio_text not in self.render([{"role": "user", "content": [_AUDIO]}]):
            raise CheckpointError(f"the chat template renders no {self.audio_text} for a part of type 'audio'")
        past = [Message("user", (TextPart("a"), AudioPart(torch.zeros(0)))), Message("assistant", (TokenPart((0,)),))]
        for system_prompt in (None, "a"):
            for history in ([], past, past[1:]):
                try:
                    ChatPrompt(self, system_prompt, history).begin_audio()
                    ChatPrompt(self, system_prompt, history).close()
                except InvalidArgument:  # the template refuses this kind of conversation: a caller learns it too
                    continue


class ChatPrompt:
    """The prompt of one turn, piece by piece in order. Every method returns the pieces that became known.

    Args:
        system_prompt: None for the template's default.
        history: past messages, oldest first.

    Raises:
        InvalidArgument: audio in a past reply, a message without parts, or the template refuses the conversation.
        CheckpointError: the template fails on the conversation.
    """

    def __init__(self, template: ChatTemplate, system_prompt: str | None, history: Sequence[Message]) -> None:
        self._template = template
        self._parts: list[Part] = []
        self._text = _Text(template.tokenizer)
        self._begun = False
        self._messages: list[dict[str, Any]] = []
        if system_prompt is not None:
            self._messages.append({"role": "system", "content": [self._mark(TextPart(system_prompt))]})
        for index, message in enumerate(history):
            self._messages.append({"role": message.role, "content": self._content(index, message)})
        first, second = len(self._parts), len(self._parts) + 1
        turn = {"role": "user", "content": [_marker(first), _AUDIO, _marker(second)]}
        rendered = template.render([*self._messages, turn], add_generation_prompt=True)
        before, rest = _split(rendered, first)
        audio, self._after = _split(rest, second)
        self._before_audio, self._after_audio = _split_once(audio, template.audio_text)
        self._add(before)
        self._opening = self._text.take()

    def opening(self) -> list[Piece]:
        """Everything before the user's turn. Later calls return nothing."""
        opening, self._opening = self._opening, []
        self._begun = True
        return opening

    def text(self, text: str) -> list[Piece]:
        """A text part of the user's turn."""
        pieces = self.opening()
        self._text.add_plain(text)
        return pieces + self._text.take()

    def begin_audio(self) -> list[Piece]:
        """The template's text before a recording of the user's turn."""
        pieces = self.opening()
        self._text.add_template(self._before_audio)
        self._text.end_run()
        return pieces + self._text.take()

    def end_audio(self) -> list[Piece]:
        """The template's text after the recording."""
        self._text.add_template(self._after_audio)
        return self._text.take()

    def close(self) -> list[Piece]:
        """The end of the user's turn, and the start of the reply.

        If no other method was called before, the reply follows the history at once: a greeting.
        """
        if self._begun:
            self._text.add_template(self._after)
        else:
            reply = {"role": "assistant", "content": [_marker(len(self._parts))]}
            before_reply, _ = _split(self._template.render([*self._messages, reply]), len(self._parts))
            self._text = _Text(self._template.tokenizer)
            self._add(before_reply)
        self._text.end_run()
        return self._text.take()

    def _content(self, index: int, message: Message) -> list[dict[str, str]]:
        if not message.parts:
            raise InvalidArgument(f"history message {index} has no parts, expected at least one")
        if message.role == "assistant" and any(isinstance(part, AudioPart) for part in message.parts):
            raise InvalidArgument(f"history message {index} of the assistant has audio, expected text or token ids")
        return [self._mark(part) for part in message.parts]

    def _mark(self, part: Part) -> dict[str, str]:
        self._parts.append(part)
        return _AUDIO if isinstance(part, AudioPart) else _marker(len(self._parts) - 1)

    def _add(self, rendered: str) -> None:
        """Add rendered text: parts replace its markers, and recordings replace its audio placeholders, in order."""
        recordings = [part for part in self._parts if isinstance(part, AudioPart)]
        if rendered.count(self._template.audio_text) != len(recordings):
            raise CheckpointError(f"the chat template drops or repeats a part of the conversation: {rendered!r}")
        clips = iter(recordings)
        for number, chunk in enumerate(_MARKER.split(rendered)):
            if number % 2:
                self._add_part(self._parts[int(chunk)])
                continue
            first, *others = chunk.split(self._template.audio_text)
            self._text.add_template(first)
            for other in others:
                self._text.insert(next(clips))
                self._text.add_template(other)

    def _add_part(self, part: Part) -> None:
        if isinstance(part, TextPart):
            self._text.add_plain(part.text)
        elif isinstance(part, TokenPart):
            ids = list(part.ids)
            self._text.insert(ids[:-1] if ids[-1:] == [self._template.im_end_id] else ids)


class _Text:
    """Template text and plain text joined into runs.

    A run is tokenised as a whole when a control token or a part that is not text ends it. So tokens span the seam
    between template text and plain text exactly as in the rendered prompt.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._run = ""
        self._pieces: list[Piece] = []

    def add_plain(self, text: str) -> None:
        self._run += text

    def add_template(self, text: str) -> None:
        for part in self._tokenizer.split_special(text):
            if isinstance(part, str):
                self._run += part
            else:
                self.insert([part])

    def insert(self, piece: Piece) -> None:
        self.end_run()
        self._pieces.append(piece)

    def end_run(self) -> None:
        if self._run:
            self._pieces.append(self._tokenizer.encode(self._run))
            self._run = ""

    def take(self) -> list[Piece]:
        pieces, self._pieces = self._pieces, []
        return pieces


def _split(rendered: str, number: int) -> tuple[str, str]:
    return _split_once(rendered, _marker(number)["text"])


def _split_once(rendered: str, separator: str) -> tuple[str, str]:
    if rendered.count(separator) != 1:
        raise CheckpointError(f"the chat template drops or repeats a part of the conversation: {rendered!r}")
    before, after = rendered.split(separator)
    return before, after


def _refuse(message: str) -> None:
    raise _Refused(message)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
