"""How the server finds the user's turns in a stream of sound."""

from __future__ import annotations

from dataclasses import dataclass

from chroma.v1 import dialogue_pb2


@dataclass(frozen=True)
class TurnDetection:
    """None leaves the server's default. `docs/turn-taking.md` shows what each setting does.

    With `create_response` False the caller commits; with `interrupt_response` False only a commit interrupts.
    """

    threshold: float | None = None
    silence_ms: int | None = None
    prefix_ms: int | None = None
    create_response: bool | None = None
    interrupt_response: bool | None = None

    def to_proto(self) -> dialogue_pb2.TurnDetection:
        """As the wire message."""
        return dialogue_pb2.TurnDetection(
            threshold=self.threshold,
            silence_duration_ms=self.silence_ms,
            prefix_padding_ms=self.prefix_ms,
            create_response=self.create_response,
            interrupt_response=self.interrupt_response,
        )


def detection_to_proto(detection: TurnDetection | None) -> dialogue_pb2.TurnDetection:
    """As the wire message of a change; None: the caller commits from now on."""
    return dialogue_pb2.TurnDetection(off=True) if detection is None else detection.to_proto()
