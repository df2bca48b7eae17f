"""Drives a speech runner step by step on a clock that the test moves."""

from __future__ import annotations

from collections.abc import Sequence

from services.runtime.checkpoint.tokenizer import Tokenizer
from services.runtime.engine.stream import End
from services.speech_gen.messages import Frame, Output, SpeechEnd, SpeechRequest
from services.speech_gen.model.generator import Generator, ThoughtInput
from services.speech_gen.runner import SpeechRunner
from services.speech_gen.scheduler import Batch, SpeechStream


class SpeechDriver:
    """Drives a runner in place of the engine: opens streams, runs one step at a time, and collects the outputs of every
    stream.
    """

    def __init__(
        self,
        generator: Generator,
        tokenizer: Tokenizer | None = None,
        *,
        width: int | None = None,
        chunk_positions: int = 256,
        shared_prompts: int = 64,
        max_load: float | None = None,
    ) -> None:
        self.now_s = 0.0
        self.runner = SpeechRunner(
            generator,
            tokenizer,
            width=width,
            chunk_positions=chunk_positions,
            shared_prompts=shared_prompts,
            max_load=max_load,
            clock=lambda: self.now_s,
        )
        self.outputs: dict[SpeechStream, list[Output | End]] = {}

    def open(self, request: SpeechRequest, thoughts: Sequence[ThoughtInput] = ()) -> SpeechStream:
        """Open and admit a stream with `thoughts` in its inbox. Raises what `admit` raises."""
        stream = SpeechStream(request, inbox_items=64, outbox_items=1024)
        self.runner.admit(stream)
        stream.inbox.extend(thoughts)
        stream._wake_engine = lambda: None
        self.outputs[stream] = []
        return stream

    def step(self) -> Batch | None:
        """Run the next step, if there is one, and release the streams that it ends."""
        batch = self.runner.schedule(self.now_s)
        if batch is not None:
            for stream, output in self.runner.step(batch):
                self.outputs[stream].append(output)
                if isinstance(output, End):
                    self.runner.release(stream)
        return batch

    def run(self) -> None:
        """Run steps until there is nothing to run at the present time."""
        while self.step() is not None:
            pass

    def run_until(self, end_s: float) -> list[tuple[float, Batch]]:
        """Run steps until `end_s`. The clock moves only while the engine rests. Returns each step with its time."""
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
        """The codes of every frame that the stream has put out."""
        return [output.codes for output in self.outputs[stream] if isinstance(output, Frame)]

    def end(self, stream: SpeechStream) -> SpeechEnd:
        """The end of a stream that has ended without an error."""
        end, closed = self.outputs[stream][-2:]
        assert isinstance(closed, End)
        assert closed.error is None
        assert isinstance(end, SpeechEnd)
        return end

    def error(self, stream: SpeechStream) -> BaseException | None:
        """The error that ended the stream, if one did."""
        closed = self.outputs[stream][-1]
        assert isinstance(closed, End)
        return closed.error

    def release_all(self) -> None:
        """Release every stream that is still open."""
        for stream in list(self.runner.scheduler.requests):
            self.runner.release(stream)

    def forget_prompts(self) -> None:
        """Evict every shared prompt."""
        while self.runner.shared_prompts.evict_one():
            pass
