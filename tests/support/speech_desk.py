"""Drives a speech runner step by step, for the tests."""

from __future__ import annotations

from collections.abc import Sequence

from services.runtime.engine.stream import End
from services.speech_gen.model.generator import Generator, Thought
from services.speech_gen.model.speech import Frame, SpeechEnd, SpeechRequest
from services.speech_gen.runner import SpeechRunner
from services.speech_gen.work import Batch, Output, SpeechStream


class Desk:
    """Drives a runner as the engine does, one step at a time, on a clock that the test moves."""

    def __init__(
        self, generator: Generator, *, width: int | None = None, prefill_rows: int = 256, shared_prompts: int = 64
    ) -> None:
        self.now_s = 0.0
        self.runner = SpeechRunner(
            generator,
            width=width,
            prefill_rows=prefill_rows,
            shared_prompts=shared_prompts,
            clock=lambda: self.now_s,
        )
        self.outputs: dict[SpeechStream, list[Output | End]] = {}

    def open(self, request: SpeechRequest, thoughts: Sequence[Thought] = ()) -> SpeechStream:
        stream = SpeechStream(request, inbox_items=64, outbox_items=256)
        self.runner.admit(stream)
        stream.inbox.extend(thoughts)
        stream._wake_engine = lambda: None
        self.outputs[stream] = []
        return stream

    def step(self) -> Batch | None:
        batch = self.runner.schedule(self.now_s)
        if batch is not None:
            for stream, output in self.runner.step(batch):
                self.outputs[stream].append(output)
                if isinstance(output, End):
                    self.runner.release(stream)
        return batch

    def run(self) -> None:
        while self.step() is not None:
            pass

    def run_until(self, end_s: float) -> list[tuple[float, Batch]]:
        """As `run`, but whenever the engine would rest, time passes. Returns the moment of every step."""
        steps: list[tuple[float, Batch]] = []
        while True:
            batch = self.step()
            if batch is not None:
                steps.append((self.now_s, batch))
                continue
            wait_s = self.runner.idle_s(self.now_s)
            if wait_s is None or self.now_s + wait_s > end_s:
                self.now_s = end_s
                return steps
            self.now_s += wait_s + 1e-6

    def frames(self, stream: SpeechStream) -> list[tuple[int, ...]]:
        return [output.codes for output in self.outputs[stream] if isinstance(output, Frame)]

    def end(self, stream: SpeechStream) -> SpeechEnd:
        end, closed = self.outputs[stream][-2:]
        assert isinstance(closed, End)
        assert closed.error is None
        assert isinstance(end, SpeechEnd)
        return end

    def error(self, stream: SpeechStream) -> BaseException | None:
        closed = self.outputs[stream][-1]
        assert isinstance(closed, End)
        return closed.error

    def forget_prompts(self) -> None:
        while self.runner.shared_prompts.evict_one():
            pass
