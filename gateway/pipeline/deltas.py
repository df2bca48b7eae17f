"""The pieces of a reply that a turn emits, and when they came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TextPiece:
    """The text of one thought. Its speech starts `audio_offset_ms` after the start of the reply's speech."""

    text: str
    audio_offset_ms: int


@dataclass(frozen=True)
class TextDelta:
    """The next part of the reply's text: that of one thought, or of several that came together.

    Its speech starts `audio_offset_ms` after the start of the reply's speech.
    """

    turn_id: str
    text: str
    audio_offset_ms: int
    parts: tuple[TextPiece, ...] = ()
    """What `text` is put together of. Empty: it is one piece."""

    @classmethod
    def of(cls, turn_id: str, pieces: Sequence[TextPiece]) -> TextDelta:
        """Put together pieces, at least one."""
        text = "".join(piece.text for piece in pieces)
        return cls(turn_id, text, pieces[0].audio_offset_ms, tuple(pieces) if len(pieces) > 1 else ())

    @property
    def pieces(self) -> tuple[TextPiece, ...]:
        """The pieces, at least one."""
        return self.parts or (TextPiece(self.text, self.audio_offset_ms),)


@dataclass(frozen=True)
class AudioDelta:
    """A piece of the reply's speech: 24000 Hz mono, in the encoding that the client asked for."""

    turn_id: str
    first_sample: int
    samples: int
    data: bytes


@dataclass(frozen=True)
class ToolCallMade:
    """The model calls a tool. `arguments` is a JSON object as text."""

    turn_id: str
    call_id: str
    name: str
    arguments: str


@dataclass
class Timings:
    """When things happened in a turn, in seconds since its commit. None: it did not happen."""

    heard_s: float | None = None
    """The reasoner had prefilled the whole prompt."""
    first_thought_s: float | None = None
    first_frame_s: float | None = None
    first_audio_s: float | None = None
    last_thought_s: float | None = None
    last_frame_s: float | None = None
    last_audio_s: float | None = None

    def mark(self, what: Literal["thought", "frame", "audio"], at_s: float) -> None:
        """Note that a thought, a frame or a piece of audio came at `at_s`."""
        if getattr(self, f"first_{what}_s") is None:
            setattr(self, f"first_{what}_s", at_s)
        setattr(self, f"last_{what}_s", at_s)
