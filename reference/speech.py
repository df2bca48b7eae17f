"""One speech at a time, without an engine, recorded like the reference's speeches: for conformance and tests."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from torch import Tensor

from services.runtime.layers.transformer import AttentionBackend
from services.speech_gen.messages import Frame, Output, SpeechEnd, SpeechRequest
from services.speech_gen.model.backbone import Backbone
from services.speech_gen.model.depth_decoder import DepthDecoder
from services.speech_gen.model.generator import Generator, ThoughtInput
from services.speech_gen.model.text_breaks import TextBreaks
from services.speech_gen.request import Request


@dataclass
class Recording:
    """A speech and the tensors computed for it. Every frame has its own, the dropped one included.

    `rows` [R, D] of each call of the backbone, the voice prompt's call first; `hidden` [D] and `codebook0_logits` [C]
    of each frame; `decoder_logits` [C], seven for each frame. C is the codebook size.
    """

    frames: list[Frame] = field(default_factory=list)
    end: SpeechEnd | None = None
    rows: list[Tensor] = field(default_factory=list)
    hidden: list[Tensor] = field(default_factory=list)
    codebook0_logits: list[Tensor] = field(default_factory=list)
    decoder_logits: list[Tensor] = field(default_factory=list)

    @property
    def all_codes(self) -> list[tuple[int, ...]]:
        """Every frame's codes; those of a dropped EOS frame come last."""
        dropped = self.end.dropped_frame if self.end else None
        return [frame.codes for frame in self.frames] + ([dropped] if dropped else [])


def speak(
    generator: Generator, message: SpeechRequest, thoughts: Iterable[ThoughtInput], breaks: TextBreaks | None = None
) -> Recording:
    """Speak all of `thoughts`, divided into segments where `breaks` allows. Raises what a stream can raise."""
    recording = Recording()
    recorded = copy.copy(generator)
    recorded.backbone = _RecordedBackbone(generator.backbone, recording)
    recorded.decoder = _RecordedDecoder(generator.decoder, recording)
    slot = recorded.open(message.sampling)
    try:
        for output in _speak(recorded, Request(message, slot, recorded, breaks), deque(thoughts)):
            if isinstance(output, SpeechEnd):
                recording.end = output
            else:
                recording.frames.append(output)
    finally:
        recorded.close(slot)
    return recording


def _speak(generator: Generator, request: Request, thoughts: deque[ThoughtInput]) -> Iterator[Output]:
    slot, prompt = request.slot, request.prompt_positions
    generator.prefill([slot], [request.message.voice.rows[:prompt]])
    request.prefilled = prompt
    ended = False
    while not ended:
        waiting = thoughts[0] if thoughts else None
        if waiting is not None and request.wants_thought:
            generator.check(waiting)
        thought = request.next_thought(waiting)
        if thought is None:
            codes = generator.frame([slot], [], [])
        else:
            codes = generator.frame([], [slot], [thought])
            if thought is waiting:
                thoughts.popleft()
        for output in request.receive(codes[0]):
            yield output
            ended = isinstance(output, SpeechEnd)
        if request.segment_is_over:
            generator.restart(slot, prompt)
            request.begin_segment()


class _RecordedBackbone(Backbone):
    def __init__(self, backbone: Backbone, recording: Recording) -> None:
        vars(self).update(vars(backbone))
        self._recording = recording

    def __call__(self, rows: Tensor, memory: AttentionBackend) -> Tensor:
        self._recording.rows.append(rows.clone())
        return super().__call__(rows, memory)

    def codebook0_logits(self, hidden: Tensor) -> Tensor:
        logits = super().codebook0_logits(hidden)
        self._recording.hidden.append(hidden[0])
        self._recording.codebook0_logits.append(logits[0])
        return logits


class _RecordedDecoder(DepthDecoder):
    def __init__(self, decoder: DepthDecoder, recording: Recording) -> None:
        vars(self).update(vars(decoder))
        self._recording = recording

    def logits(self, codebook: int, hidden: Tensor, previous_code: Tensor) -> Tensor:
        logits = super().logits(codebook, hidden, previous_code)
        self._recording.decoder_logits.append(logits[0])
        return logits
