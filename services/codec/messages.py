"""What enters the codec's engine. What leaves it are numpy arrays: PCM of a decode stream, codes of an encode one."""

from __future__ import annotations

from dataclasses import dataclass

MAX_FRAMES_PER_MESSAGE = 1_024
"""Most frames of one Decode message, 82 s of sound: bounds what a stream's inbox can hold."""


@dataclass(frozen=True)
class Decode:
    """Opens a decode stream: frames, any integer dtype [T, 8], in; PCM float32 [T * 1920] at 24 kHz out."""


@dataclass(frozen=True)
class Encode:
    """Opens an encode stream: PCM, float [S] at 24 kHz, in; codes uint16 [T, 8] out, ceil(S / 1920) in all."""
