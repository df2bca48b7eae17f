"""The codec's decoder in simulated time. The batch of a step is that of `choose` in services/codec/scheduler.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench.capacity.simulation.engines import Batch, Engine, EngineStream
from services.common.wire.audio import FRAME_S

STEP_FRAMES = 8
"""Most frames that one step decodes for one stream, the default of services/codec/runner.py."""


@dataclass(eq=False)
class DecodeStream(EngineStream):
    """A reply whose frames become sound."""

    took: Callable[[int], None]
    """Takes the number of frames that have just become sound."""
    waiting: int = 0
    delivered: int = 0
    first_pcm_s: float = field(default=0.0)

    def urgency(self) -> tuple[int, float]:
        """Sorts streams: first those without sound, oldest first, then by the time when playback would run out."""
        if self.delivered == 0:
            return 0, self.opened_s
        return 1, self.first_pcm_s + self.delivered * FRAME_S


class Codec(Engine[DecodeStream]):
    """The codec's engine."""

    def feed(self, stream: DecodeStream, frames: int) -> None:
        """Take frames of the stream."""
        stream.waiting += frames
        self.wake()

    def schedule(self, now_s: float) -> Batch | None:
        """A step of all streams with frames. Its width is the number of frames: streams times frames of each."""
        ready = [stream for stream in self.streams if stream.waiting]
        if not ready:
            return None
        chosen, frames = choose(ready, self.slots)
        return "decode", len(chosen) * frames, (chosen, frames)

    def finish(self, kind: str, work: Any) -> None:
        """Deliver sound."""
        chosen, frames = work
        for stream in chosen:
            stream.waiting -= frames
            stream.first_pcm_s = stream.first_pcm_s or self._env.now
            stream.delivered += frames
            if not stream.left:
                stream.took(frames)


def choose(ready: list[DecodeStream], width: int) -> tuple[list[DecodeStream], int]:
    """The streams of a step, the most urgent first, and how many frames each of them advances."""
    chosen = sorted(ready, key=DecodeStream.urgency)[:width]
    most = min(min(stream.waiting, stream.delivered + 1) for stream in chosen)
    most = min(most, STEP_FRAMES, width // len(chosen))
    return chosen, 1 << (most.bit_length() - 1)
