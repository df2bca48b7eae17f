"""The tokens of a turn, as all public APIs count them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gateway.conversation.output.events import TurnDone
from services.common.wire.audio import FRAME_RATE_HZ, HEARING_RATE_HZ, MEL_HOP_SAMPLES, tokens_of_mel_frames


@dataclass(frozen=True)
class Tokens:
    """The tokens of one turn."""

    input_text: int
    input_audio: int
    """One for each 40 ms of the user's speech in this turn."""
    cached: int
    """Those of the input that the reasoner had computed in an earlier turn."""
    output_text: int
    """The reply's tokens of text, with the one that ends it."""
    output_audio: int
    """One for each frame of the reply's speech, 80 ms."""

    @property
    def input(self) -> int:
        """All tokens of the input: the conversation so far, and the turn."""
        return self.input_text + self.input_audio

    @property
    def output(self) -> int:
        """All tokens of the reply. The limit of a reply counts these."""
        return self.output_text + self.output_audio

    @classmethod
    def of(cls, turn: TurnDone) -> Tokens:
        """Count the tokens of a turn."""
        mel_frames = math.ceil(round(turn.input_audio_s * HEARING_RATE_HZ) / MEL_HOP_SAMPLES)
        input_audio = min(tokens_of_mel_frames(mel_frames), turn.input_tokens)
        output_audio = round(turn.output_audio_s * FRAME_RATE_HZ)
        return cls(turn.input_tokens - input_audio, input_audio, turn.cached_tokens, turn.output_tokens, output_audio)
