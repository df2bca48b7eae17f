"""Sessions: their settings and their recorded entries."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from chroma.v1 import dialogue_pb2, generation_pb2
from chroma_voice.events import ToolCall
from chroma_voice.tools import ToolResult, Tools


@dataclass(frozen=True)
class Sampling:
    """How codes are sampled. None takes the checkpoint's default. With `greedy` the other settings have no effect."""

    greedy: bool = False
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None

    def to_proto(self) -> generation_pb2.Sampling:
        """Return the wire message."""
        return generation_pb2.Sampling(
            greedy=self.greedy,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            seed=self.seed,
        )


@dataclass(frozen=True)
class SessionSettings:
    """Settings of a session. None takes the server's default; in an update, None changes nothing."""

    voice: str = ""
    system_prompt: str | None = None
    sampling: Sampling | None = None
    max_reply_s: float | None = None
    tools: Tools | None = None

    def to_proto(self) -> dialogue_pb2.SessionConfig:
        """Return the wire message."""
        return dialogue_pb2.SessionConfig(
            voice_id=self.voice,
            system_prompt=self.system_prompt,
            sampling=None if self.sampling is None else self.sampling.to_proto(),
            max_reply_s=self.max_reply_s,
            tools=None if self.tools is None else self.tools.to_proto(),
        )


@dataclass(frozen=True)
class Entry:
    """One recorded entry. `heard_text` is the part of a reply's text that was played, an upper bound. `tool_calls` are
    the calls that a reply ended with, `tool_results` their results as far as they came."""

    speaker: Literal["user", "assistant"]
    turn_id: str
    text: str
    heard_text: str
    audio_s: float
    tool_calls: tuple[ToolCall, ...] = ()
    tool_results: tuple[ToolResult, ...] = ()


@dataclass(frozen=True)
class Session:
    """A session with its entries, oldest first. `dropped_turns` is the number of older turns that were dropped."""

    session_id: str
    voice: str
    system_prompt: str | None
    entries: tuple[Entry, ...]
    dropped_turns: int
    created: datetime
    expires: datetime

    @classmethod
    def from_proto(cls, session: dialogue_pb2.Session) -> Session:
        """Return the value of the wire message."""
        config = session.config
        return cls(
            session_id=session.session_id,
            voice=config.voice_id,
            system_prompt=config.system_prompt if config.HasField("system_prompt") else None,
            entries=tuple(
                Entry(
                    speaker="user" if entry.speaker == dialogue_pb2.SPEAKER_USER else "assistant",
                    turn_id=entry.turn_id,
                    text=entry.text,
                    heard_text=entry.heard_text,
                    audio_s=entry.audio_s,
                    tool_calls=tuple(
                        ToolCall(entry.turn_id, call.call_id, call.name, call.arguments) for call in entry.tool_calls
                    ),
                    tool_results=tuple(ToolResult(result.call_id, result.output) for result in entry.tool_results),
                )
                for entry in session.entries
            ),
            dropped_turns=session.dropped_turns,
            created=session.create_time.ToDatetime(tzinfo=UTC),
            expires=session.expire_time.ToDatetime(tzinfo=UTC),
        )
