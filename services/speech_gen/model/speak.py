"""One speech alone, without an engine: for conformance and for tests. Records what the reference recorded."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from torch import Tensor

from services.runtime.layers.transformer import Memory
from services.speech_gen.model.backbone import Backbone
from services.speech_gen.model.depth_decoder import DepthDecoder
from services.speech_gen.model.generator import Generator, Thought
from services.speech_gen.model.speech import Frame, Speech, SpeechEnd, SpeechRequest
from services.speech_gen.model.text_breaks import TextBreaks


@dataclass
class Recording:
    """A speech and what was computed on the way, for each frame, the dropped one included.

    `rows` [R, D] of each call of the backbone, the prompt's call first; `hidden` [D] and `codebook0_logits` [C] of
    each frame; `decoder_logits` [C], seven for each frame. C is the codebook size: the codes above have no logits here.
    """

    frames: list[Frame] = field(default_factory=list)
    end: SpeechEnd | None = None
    rows: list[Tensor] = field(default_factory=list)
    hidden: list[Tensor] = field(default_factory=list)
    codebook0_logits: list[Tensor] = field(default_factory=list)
    decoder_logits: list[Tensor] = field(default_factory=list)

    @property
    def all_codes(self) -> list[tuple[int, ...]]:
        """Every frame's codes, the dropped EOS frame's last."""
        dropped = self.end.dropped_frame if self.end else None
        return [frame.codes for frame in self.frames] + ([dropped] if dropped else [])


def speak(
    generator: Generator, request: SpeechRequest, thoughts: Iterable[Thought], breaks: TextBreaks | None = None
) -> Recording:
    """Say all of `thoughts`, in segments if `breaks` says where. Raises what a stream can raise."""
    recording = Recording()
    recorded = copy.copy(generator)
    recorded.backbone = _RecordedBackbone(generator.backbone, recording)
    recorded.decoder = _RecordedDecoder(generator.decoder, recording)
    slot = recorded.open(request.sampling)
    try:
        for output in _speak(recorded, Speech(request, slot, 0, recorded, breaks), deque(thoughts)):
            if isinstance(output, SpeechEnd):
                recording.end = output
            else:
                recording.frames.append(output)
    finally:
        recorded.close(slot)
    return recording


def _speak(generator: Generator, speech: Speech, thoughts: deque[Thought]) -> Iterator[Frame | SpeechEnd]:
    generator.prefill([speech.slot], [speech.request.voice.rows[: speech.prompt_rows]])
    speech.prefilled = speech.prompt_rows
    ended = False
    while not ended:
        if speech.wants_thought and thoughts:
            generator.check(thoughts[0])
            if speech.parts_before(thoughts[0]):
                thought = speech.part_before(thoughts[0])
            else:
                thought = thoughts.popleft()
                speech.feed(thought)
            codes = generator.frame([], [speech.slot], [thought])
        else:
            speech.go_on_without_thought()
            codes = generator.frame([speech.slot], [], [])
        for output in speech.hear(codes[0]):
            yield output
            ended = isinstance(output, SpeechEnd)


class _RecordedBackbone(Backbone):
    def __init__(self, backbone: Backbone, recording: Recording) -> None:
        vars(self).update(vars(backbone))
        self._recording = recording

    def __call__(self, rows: Tensor, memory: Memory) -> Tensor:
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
