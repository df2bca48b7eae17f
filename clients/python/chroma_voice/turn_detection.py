"""Settings of the turn detection: how the server finds the user's turns in the input audio."""

from __future__ import annotations

from dataclasses import dataclass

from chroma.v1 import dialogue_pb2


@dataclass(frozen=True)
class TurnDetection:
    """Settings of turn detection; None takes the server's default. `docs/turn-taking.md` explains each of them.

    With `create_response` False the caller commits each turn. With `interrupt_response` False the user's speech does
    not interrupt a reply; the next commit does. A sound with less speech than `speech_ms` starts no turn.
    With `ignore_echo` neither does a sound that is like the reply being played.
    """

    threshold: float | None = None
    silence_ms: int | None = None
    prefix_ms: int | None = None
    create_response: bool | None = None
    interrupt_response: bool | None = None
    speech_ms: int | None = None
    ignore_echo: bool | None = None

    def to_proto(self) -> dialogue_pb2.TurnDetection:
        """Return the wire message."""
        return dialogue_pb2.TurnDetection(
            threshold=self.threshold,
            silence_duration_ms=self.silence_ms,
            prefix_padding_ms=self.prefix_ms,
            create_response=self.create_response,
            interrupt_response=self.interrupt_response,
            min_speech_duration_ms=self.speech_ms,
            ignore_echo=self.ignore_echo,
        )


def detection_to_proto(detection: TurnDetection | None) -> dialogue_pb2.TurnDetection:
    """Return the wire message of a change. None turns detection off: the caller commits each turn."""
    return dialogue_pb2.TurnDetection(off=True) if detection is None else detection.to_proto()
