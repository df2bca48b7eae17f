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
from functools import lru_cache
from itertools import takewhile
from typing import Any

import torch

from services.common.errors import CheckpointError, InvalidArgument
from services.reasoner.model.chat_environment import ChatEnvironment
from services.reasoner.model.parts import AudioPart, Message, Part, Piece, TextPart, TokenPart, keys_of
from services.reasoner.model.tools import Tool, find_format
from services.runtime.checkpoint.tokenizer import Tokenizer

_MARKER = re.compile("\ue000(\\d+)\ue001")
_AUDIO: dict[str, str] = {"type": "audio", "audio": ""}


def _marker(number: int) -> dict[str, str]:
    return {"type": "text", "text": f"\ue000{number}\ue001"}


class _Callers:
    """Stands for a system prompt of a caller, whatever it says."""


_CALLERS = _Callers()


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
        self._environment = ChatEnvironment(_refuse)
        try:
            self._template = self._environment.compiled(tokenizer.chat_template)
        except Exception as error:  # a text nested too deeply raises RecursionError, a constant whatever it computes
            raise CheckpointError(f"the chat template cannot be read: {_one_line(error)}") from error
        self.common_keys = lru_cache(maxsize=4)(self._common_keys)
        """Cache keys of the `ChatPrompt.common_positions` of a conversation without history and tools, by its system
        prompt."""
        control = map(re.escape, sorted(tokenizer.special_ids, key=len, reverse=True))
        self.not_plain = re.compile("|".join([*control, "[\ue000\ue001]"]))
        """What text of a caller cannot hold when the template renders it: spellings of control tokens, and markers."""
        self.tools = find_format(self.render, tokenizer)
        """How the template writes calls of tools. None: it knows no tools."""
        self._check()

    def render(
        self,
        messages: list[dict[str, Any]],
        *,
        add_generation_prompt: bool = False,
        tools: list[dict[str, Any]] | None = None,
    ) -> str:
        """The conversation as text.

        Raises InvalidArgument when the template refuses the conversation, CheckpointError when the template fails.
        """
        try:
            named = {"tools": tools} if tools else {}
            return self._environment.rendered(
                self._template, messages=messages, add_generation_prompt=add_generation_prompt, **named
            )
        except _Refused as error:
            raise InvalidArgument(
                f"the checkpoint's chat template refuses this conversation: {_one_line(error)}"
            ) from error
        except Exception as error:  # a template is a program of the checkpoint's author: it can raise anything
            raise CheckpointError(
                f"the chat template fails on a conversation: {type(error).__name__}: {_one_line(error)}"
            ) from error

    def _common_keys(self, system_prompt: str | _Callers | None) -> list[int]:
        is_callers = isinstance(system_prompt, _Callers)
        prompt = ChatPrompt(self, "" if is_callers else system_prompt, [], system_prompt_is_common=not is_callers)
        return keys_of(prompt.opening())[: prompt.common_positions]

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
        tools: what the model may call. Left out, with the calls and results in the history, where the template knows no
            tools.
        system_prompt_is_common: whether the system prompt is the deployment's and not the caller's.

    Raises:
        InvalidArgument: audio in a past reply, a message without parts, or the template refuses the conversation.
        CheckpointError: the template fails on the conversation.
    """

    def __init__(
        self,
        template: ChatTemplate,
        system_prompt: str | None,
        history: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        system_prompt_is_common: bool = False,
    ) -> None:
        self._common_positions = 0
        self._template = template
        self._common_parts = int(system_prompt_is_common and system_prompt is not None)
        common_prompt = system_prompt if system_prompt is None or system_prompt_is_common else _CALLERS
        self._parts: list[Part] = []
        self._text = _Text(template.tokenizer)
        self._begun = False
        self._messages: list[dict[str, Any]] = []
        if system_prompt is not None:
            self._messages.append({"role": "system", "content": [self._mark(TextPart(system_prompt))]})
        for index, message in enumerate(history):
            self._messages += self._entries(index, message)
        self._tools = [self._plain(tool.schema()) for tool in tools] if template.tools else []
        first, second = len(self._parts), len(self._parts) + 1
        turn = {"role": "user", "content": [_marker(first), _AUDIO, _marker(second)]}
        rendered = self._render([*self._messages, turn])
        before, rest = _split(rendered, first)
        audio, self._after = _split(rest, second)
        self._before_audio, self._after_audio = _split_once(audio, template.audio_text)
        self._add(before)
        self._opening = self._text.take()
        self._most_common = self._common_positions
        if history or self._tools:
            common_keys = template.common_keys(common_prompt)
            self._most_common = len(common_keys)
            if self._tools:  # the tools are the caller's: what is before them is common
                pairs = zip(common_keys, keys_of(self._opening), strict=False)
                self._most_common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    @property
    def common_positions(self) -> int:
        """Leading positions with the text of the template, and of the deployment's system prompt, only.

        The history does not change them, so that all turns of a deployment share the same pages.
        """
        return min(self._common_positions, self._most_common)

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

        If no other method was called before, the reply follows the history at once: a greeting, or an answer to
        results of tools.
        """
        if self._begun:
            self._text.add_template(self._after)
        else:
            self._text = _Text(self._template.tokenizer)
            self._add(self._before_reply())
        self._text.end_run()
        return self._text.take()

    def _before_reply(self) -> str:
        """The rendered conversation without a turn of the user, up to the reply."""
        if self._messages:
            return self._render(self._messages)
        reply = {"role": "assistant", "content": [_marker(len(self._parts))]}  # a template may need a message
        before_reply, _ = _split(self._template.render([reply], tools=self._tools), len(self._parts))
        return before_reply

    def _render(self, messages: list[dict[str, Any]]) -> str:
        return self._template.render(messages, add_generation_prompt=True, tools=self._tools)

    def _entries(self, index: int, message: Message) -> list[dict[str, Any]]:
        """A message as the template gets it. None where the template knows no tools and the message is about them."""
        known = self._template.tools
        if message.role == "tool":
            if known is None:
                return []
            parts: Any = self._content(index, message)
            content = "".join(part["text"] for part in parts) if known.result_is_text else parts
            named = self._plain({"name": message.name, "tool_call_id": message.call_id})
            return [{"role": "tool", **named, "content": content}]
        if not message.tool_calls:
            return [{"role": message.role, "content": self._content(index, message)}]
        content = self._content(index, message) if message.parts else ""
        if known is None:
            return [{"role": message.role, "content": content}] if content else []
        return [
            {
                "role": message.role,
                "content": content,
                "tool_calls": [self._plain(call.entry()) for call in message.tool_calls],
            }
        ]

    def _plain(self, value: Any) -> Any:
        """A value of a caller for the template. Markers replace what the template must not be given as text."""
        if isinstance(value, str):
            return self._template.not_plain.sub(lambda found: self._mark(TextPart(found.group()))["text"], value)
        if isinstance(value, dict):
            return {self._plain(key): self._plain(inner) for key, inner in value.items()}
        return [self._plain(inner) for inner in value] if isinstance(value, list) else value

    def _content(self, index: int, message: Message) -> list[dict[str, str]]:
        if not message.parts:
            raise InvalidArgument(f"history message {index} has no parts, expected at least one")
        if message.role != "user" and any(isinstance(part, AudioPart) for part in message.parts):
            whose = "the assistant" if message.role == "assistant" else "a tool"
            raise InvalidArgument(f"history message {index} of {whose} has audio, expected text or token ids")
        return [self._mark(part) for part in message.parts]

    def _mark(self, part: Part) -> dict[str, str]:
        self._parts.append(part)
        return _AUDIO if isinstance(part, AudioPart) else _marker(len(self._parts) - 1)

    def _add(self, rendered: str) -> None:
        """Add rendered text: parts replace its markers, and recordings replace its audio placeholders, in order."""
        self._common_positions = 0
        is_common = True
        recordings = [part for part in self._parts if isinstance(part, AudioPart)]
        if rendered.count(self._template.audio_text) != len(recordings):
            raise CheckpointError(f"the chat template drops or repeats a part of the conversation: {rendered[:200]!r}")
        clips = iter(recordings)
        for number, chunk in enumerate(_MARKER.split(rendered)):
            if number % 2:
                is_common = is_common and int(chunk) < self._common_parts
                self._add_part(self._parts[int(chunk)])
                continue
            first, *others = chunk.split(self._template.audio_text)
            self._text.add_template(first)
            if is_common:
                self._common_positions = self._text.positions
            is_common = is_common and not others
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

    @property
    def positions(self) -> int:
        """Positions of the pieces that are complete and not taken yet."""
        return len(keys_of(self._pieces))

    def take(self) -> list[Piece]:
        pieces, self._pieces = self._pieces, []
        return pieces


def _split(rendered: str, number: int) -> tuple[str, str]:
    return _split_once(rendered, _marker(number)["text"])


def _split_once(rendered: str, separator: str) -> tuple[str, str]:
    if rendered.count(separator) != 1:
        raise CheckpointError(f"the chat template drops or repeats a part of the conversation: {rendered[:200]!r}")
    before, after = rendered.split(separator)
    return before, after


def _refuse(message: str) -> None:
    raise _Refused(message)


def _one_line(error: Exception) -> str:
    return " ".join(str(error)[:1000].split())[:200]
