"""A recorded turn: what the history keeps of it, and its form for the reasoner, the client and the store."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from chroma.v1.audio_pb2 import AUDIO_ENCODING_UNSPECIFIED, AudioEncoding
from chroma.v1.dialogue_pb2 import SPEAKER_ASSISTANT, SPEAKER_USER, Entry
from chroma.v1.reasoner_pb2 import ROLE_ASSISTANT, ROLE_USER, AudioClip, Message, Part, TokenIds
from services.common.wire.audio import FRAME_SAMPLES

FRAMES_PER_THOUGHT = 2
"""Thought i is injected at frame 2i (docs/model.md, section 3)."""


@dataclass(frozen=True)
class TurnRecord:
    """One finished turn: the user's side and the reply.

    `user` holds text parts and PCM parts (16 kHz, `encoding`) in order. It is empty for a reply whose text the client
    gave. `token_ids` and `texts` are the whole reply, token by token, without im_end. The first `heard_tokens` of them
    entered the speech before the last frame that was played to the user, so they are an upper bound of what the user
    heard. A reply that the client injected into the history is one text without token ids.
    """

    turn_id: str
    user: tuple[str | bytes, ...] = ()
    encoding: AudioEncoding.ValueType = AUDIO_ENCODING_UNSPECIFIED
    input_audio_s: float = 0.0
    token_ids: tuple[int, ...] = ()
    texts: tuple[str, ...] = ()
    heard_tokens: int = 0
    output_audio_s: float = 0.0

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

    def messages(self) -> list[Message]:
        """The turn as past messages of a conversation: what the user said and what the user heard."""
        messages = []
        if self.user:
            messages.append(Message(role=ROLE_USER, parts=[self._part(part) for part in self.user]))
        if self.heard_tokens:
            heard = Part(token_ids=TokenIds(ids=self.token_ids[: self.heard_tokens]))
            if not self.token_ids:
                heard = Part(text=self.heard_text)
            messages.append(Message(role=ROLE_ASSISTANT, parts=[heard]))
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
            )
        )
        return entries

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
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> TurnRecord:
        """The record without its audio: PCM parts are zeros until `with_audio`."""
        fields = json.loads(data)
        user = tuple(part if isinstance(part, str) else bytes(part) for part in fields.pop("user"))
        token_ids, texts = tuple(fields.pop("token_ids")), tuple(fields.pop("texts"))
        return cls(user=user, token_ids=token_ids, texts=texts, **fields)

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
