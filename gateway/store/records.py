"""A recorded turn: what the history keeps of it, and its form for the reasoner, the client and the store."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from chroma.v1.audio_pb2 import AUDIO_ENCODING_UNSPECIFIED, AudioEncoding
from chroma.v1.dialogue_pb2 import SPEAKER_ASSISTANT, SPEAKER_USER, Entry
from chroma.v1.reasoner_pb2 import ROLE_ASSISTANT, ROLE_TOOL, ROLE_USER, AudioClip, Message, Part, TokenIds
from chroma.v1.tools_pb2 import ToolCall as ToolCallMessage
from chroma.v1.tools_pb2 import ToolResult
from services.common.wire.audio import FRAME_SAMPLES, FRAMES_PER_THOUGHT, HEARING_RATE_HZ
from services.common.wire.pcm import sample_count


@dataclass(frozen=True)
class ToolCall:
    """A tool call that the model made. `arguments` is JSON text; `output` is the tool's result. None: none came."""

    call_id: str
    name: str
    arguments: str
    output: str | None = None


@dataclass(frozen=True)
class TurnRecord:
    """One finished turn: the user's side and the reply.

    `user` holds text parts and PCM parts (16 kHz, `encoding`) in order. It is empty for a reply whose text the client
    gave. `token_ids` and `texts` are the whole reply, token by token, without im_end. The first `heard_tokens` of them
    entered the speech before the last frame that was played to the user, so they are an upper bound of what the user
    heard. A reply that the client injected into the history is one text without token ids. `tool_calls` are the calls
    that the reply ended with.
    """

    turn_id: str
    user: tuple[str | bytes, ...] = ()
    encoding: AudioEncoding.ValueType = AUDIO_ENCODING_UNSPECIFIED
    input_audio_s: float = 0.0
    token_ids: tuple[int, ...] = ()
    texts: tuple[str, ...] = ()
    heard_tokens: int = 0
    output_audio_s: float = 0.0
    tool_calls: tuple[ToolCall, ...] = ()

    @property
    def text(self) -> str:
        """The whole text of the reply."""
        return "".join(self.texts)

    @property
    def heard_text(self) -> str:
        """The part of the reply that was played to the user."""
        return "".join(self.texts[: self.heard_tokens])

    def heard(self, samples: int) -> TurnRecord:
        """This turn when `samples` of the reply, at 24 kHz, were played to the user."""
        frames = math.ceil(samples / FRAME_SAMPLES)
        return replace(self, heard_tokens=min(len(self.texts), math.ceil(frames / FRAMES_PER_THOUGHT)))

    def audio(self) -> bytes:
        """The user's speech: all PCM parts, one after the other."""
        return b"".join(part for part in self.user if isinstance(part, bytes))

    def separated(self, counts: Sequence[int], turn_ids: Sequence[str]) -> list[TurnRecord]:
        """Return the user's messages, of so many parts each, and the reply as turns of their own, in order.

        The first message keeps this turn's id; the others and the reply take `turn_ids`. The last message gets all
        parts that are left. Without a message of the user this is the turn itself.
        """
        ids = iter((self.turn_id, *turn_ids))
        turns, start = [], 0
        for index, count in enumerate(counts):
            end = len(self.user) if index == len(counts) - 1 else start + count
            user = self.user[start:end]
            samples = sum(sample_count(part, self.encoding) for part in user if isinstance(part, bytes))
            audio_s = samples / HEARING_RATE_HZ
            turns.append(TurnRecord(next(ids), user, self.encoding, audio_s))
            start = end
        if not counts:
            return [self]
        if self.texts or self.tool_calls:
            turns.append(replace(self, turn_id=next(ids), user=(), input_audio_s=0.0))
        return turns

    def size_bytes(self) -> int:
        """The bytes that the store keeps for the turn, nearly."""
        user = sum(len(part) if isinstance(part, bytes) else len(part.encode()) for part in self.user)
        calls = (
            len((call.call_id + call.name + call.arguments + (call.output or "")).encode()) for call in self.tool_calls
        )
        return user + sum(calls) + sum(len(text.encode()) for text in self.texts) + 8 * len(self.token_ids) + 200

    def messages(self) -> list[Message]:
        """The turn as past messages of a conversation: what the user said, what the user heard, and the tool calls with
        their results."""
        messages = []
        if self.user:
            messages.append(Message(role=ROLE_USER, parts=[self._part(part) for part in self.user]))
        heard: list[Part] = []
        if self.heard_tokens and not self.token_ids:
            heard = [Part(text=self.heard_text)] if self.heard_text or not self.tool_calls else []
        elif self.heard_tokens:
            heard = [Part(token_ids=TokenIds(ids=self.token_ids[: self.heard_tokens]))]
        if heard or self.tool_calls:
            messages.append(Message(role=ROLE_ASSISTANT, parts=heard, tool_calls=self._call_messages()))
        for call in self.tool_calls:
            if call.output is not None:
                result = Part(text=call.output)
                messages.append(Message(role=ROLE_TOOL, parts=[result], call_id=call.call_id, tool_name=call.name))
        return messages

    def entries(self) -> list[Entry]:
        """The turn as clients see it."""
        entries = []
        if self.user:
            text = "\n".join(part for part in self.user if isinstance(part, str))
            entries.append(
                Entry(
                    speaker=SPEAKER_USER, turn_id=self.turn_id, text=text, heard_text=text, audio_s=self.input_audio_s
                )
            )
        entries.append(
            Entry(
                speaker=SPEAKER_ASSISTANT,
                turn_id=self.turn_id,
                text=self.text,
                heard_text=self.heard_text,
                audio_s=self.output_audio_s,
                tool_calls=self._call_messages(),
                tool_results=[
                    ToolResult(call_id=call.call_id, output=call.output)
                    for call in self.tool_calls
                    if call.output is not None
                ],
            )
        )
        return entries

    def _call_messages(self) -> list[ToolCallMessage]:
        return [
            ToolCallMessage(call_id=call.call_id, name=call.name, arguments=call.arguments) for call in self.tool_calls
        ]

    def to_json(self) -> bytes:
        """The record as JSON without its audio: the length in bytes stands for each PCM part."""
        fields = {
            "turn_id": self.turn_id,
            "user": [part if isinstance(part, str) else len(part) for part in self.user],
            "encoding": self.encoding,
            "input_audio_s": self.input_audio_s,
            "token_ids": self.token_ids,
            "texts": self.texts,
            "heard_tokens": self.heard_tokens,
            "output_audio_s": self.output_audio_s,
        }
        if self.tool_calls:
            fields["tool_calls"] = [asdict(call) for call in self.tool_calls]
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> TurnRecord:
        """The record without its audio: PCM parts are zeros until `with_audio`."""
        fields = json.loads(data)
        user = tuple(part if isinstance(part, str) else bytes(part) for part in fields.pop("user"))
        token_ids, texts = tuple(fields.pop("token_ids")), tuple(fields.pop("texts"))
        calls = tuple(ToolCall(**call) for call in fields.pop("tool_calls", ()))
        return cls(user=user, token_ids=token_ids, texts=texts, tool_calls=calls, **fields)

    def with_audio(self, audio: bytes) -> TurnRecord:
        """The record with its PCM parts filled from `audio`, as `audio()` gave it."""
        parts: list[str | bytes] = []
        start = 0
        for part in self.user:
            if isinstance(part, bytes):
                parts.append(audio[start : start + len(part)])
                start += len(part)
            else:
                parts.append(part)
        return replace(self, user=tuple(parts))

    def _part(self, part: str | bytes) -> Part:
        if isinstance(part, str):
            return Part(text=part)
        return Part(audio=AudioClip(encoding=self.encoding, data=part))


def trim(turns: Sequence[TurnRecord], *, max_turns: int, max_audio_s: float) -> tuple[TurnRecord, ...]:
    """The newest of `turns` that fit the limits together, oldest first. The last turn is always among them."""
    kept: list[TurnRecord] = []
    audio_s = 0.0
    for turn in reversed(turns):
        audio_s += turn.input_audio_s
        if kept and (len(kept) == max_turns or audio_s > max_audio_s):
            break
        kept.append(turn)
    return tuple(reversed(kept))
