"""The speech generator behind an engine: joins the scheduler, the model and its KV cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from services.common.errors import InvalidArgument
from services.common.sampling import SamplingParams
from services.common.settings import PREFILL_POSITIONS
from services.runtime.checkpoint.tokenizer import Tokenizer
from services.runtime.engine.failures import NotFinite
from services.runtime.engine.stream import End
from services.speech_gen.messages import Output, SpeechEnd
from services.speech_gen.model.generator import NOT_FINITE, Generator, ThoughtInput
from services.speech_gen.model.text_breaks import TextBreaks
from services.speech_gen.model.voice import VoicePrompt
from services.speech_gen.request import Request, max_positions
from services.speech_gen.scheduler import Batch, Scheduler, SpeechStream
from services.speech_gen.shared_prompts import SharedPrompts
from services.speech_gen.step_times import StepTimes

DEFAULT_SHARED_PROMPTS = 64
TIMED_PROMPT_POSITIONS = 64
"""Length of the voice prompt that warm-up times."""


@dataclass
class Counters:
    """What has happened since the start: steps, frames, and voice prompt positions computed and taken over."""

    steps: int = 0
    frames: int = 0
    prompt_positions: int = 0
    shared_positions: int = 0


class SpeechRunner:
    """A `Runner` (services/runtime/engine/runner.py) for replies. Its streams' `state` is a `Request`.

    Args:
        generator: the model; its slots bound the streams.
        tokenizer: tells where a reply too long for the model's positions can be divided; None: after any thought.
        width: most streams in a step; default all slots.
        chunk_positions: most voice prompt positions in a step.
        shared_prompts: most voice prompts kept for later streams.
        max_load: share of a frame's length that the steps for one frame of every stream may take. A stream that would
            make it more is refused. The rest of the time is for voice prompts. None: only slots and pages bound the
            streams.
        clock: the engine's clock, monotonic seconds.
    """

    def __init__(
        self,
        generator: Generator,
        tokenizer: Tokenizer | None = None,
        *,
        width: int | None = None,
        chunk_positions: int = PREFILL_POSITIONS,
        shared_prompts: int = DEFAULT_SHARED_PROMPTS,
        max_load: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.generator = generator
        self.counters = Counters()
        self.shared_prompts = SharedPrompts(generator.kv, shared_prompts)
        self.scheduler = Scheduler(
            generator.kv.free_pages,
            self.shared_prompts,
            width=width or generator.kv.free_slots,
            chunk_positions=chunk_positions,
            max_load=max_load,
        )
        self._tokenizer = tokenizer
        self._clock = clock

    def warm_up(self) -> None:
        """Capture the model's steps, then time frames of 1, 2, 4, ... streams and a voice prompt."""
        self.generator.capture()
        widest = min(self.scheduler.width, self.generator.kv.free_slots, self.generator.kv.free_pages)
        self.scheduler.step_times = measure(self.generator, widest, self._clock)

    def admit(self, stream: SpeechStream) -> None:
        """Give the stream a slot, and reserve the most pages that it can need.

        Raises `ResourceExhausted` when all slots or pages are taken, or when steps would become too slow for the
        streams that are speaking. The first stream is admitted however slow the device is.
        """
        self.scheduler.check_load()
        message, kv = stream.request, self.generator.kv
        shared = self.shared_prompts.find(message.voice.fingerprint)
        shared_positions = shared.prefix.positions if shared else 0
        pages = kv.pages_for(max_positions(message, kv.max_positions)) - shared_positions // kv.page_size
        if shared:
            shared.streams += 1  # so that making room does not evict it
        slot: int | None = None
        try:
            self.scheduler.make_room(pages)
            slot = self.generator.open(message.sampling, shared.prefix if shared else None)
            stream.state = Request(
                message,
                slot,
                self.generator,
                TextBreaks(self._tokenizer),
                shared_prompt=shared,
                reserved_pages=pages,
                admitted_s=self._clock(),
            )
        except BaseException:
            if slot is not None:
                self.generator.close(slot)
            if shared:
                self.shared_prompts.leave(shared)
            raise
        self.counters.shared_positions += shared_positions
        self.scheduler.add(stream, stream.state)

    def release(self, stream: SpeechStream) -> None:
        """Free the stream's slot and pages, in whatever state it is."""
        request = self.scheduler.remove(stream)
        if request.shared_prompt:
            self.shared_prompts.leave(request.shared_prompt)
        self.generator.close(request.slot)
        if request.is_forgotten:
            self._erase([request.message.voice])

    def forget(self, fingerprint: str, kept: VoicePrompt | None) -> None:
        """Remove the shared prompt of a voice, and overwrite its memory and the rows of `kept`, the voice in the cache.

        What running streams use of the voice is overwritten when they leave. They share no prompt any more.
        """
        self.shared_prompts.forget(fingerprint)
        for request in self.scheduler.requests.values():
            if request.message.voice.fingerprint == fingerprint:
                request.is_forgotten = True
        self._erase([kept] if kept else [])

    def _erase(self, voices: list[VoicePrompt]) -> None:
        """Overwrite the KV pages that no stream uses, and the rows of those voices that no stream uses."""
        self.generator.kv.erase_free_pages()
        in_use = {id(request.message.voice) for request in self.scheduler.requests.values()}
        for voice in voices:
            if id(voice) not in in_use:
                voice.erase()

    def schedule(self, now_s: float) -> Batch | None:
        """The next step: a chunk of voice prompts, or a frame."""
        return self.scheduler.schedule(now_s)

    def idle_s(self, now_s: float) -> float | None:
        """Seconds until a stream is due to speak again."""
        return self.scheduler.idle_s(now_s)

    def streams_of(self, batch: Batch) -> Iterable[SpeechStream]:
        """Every stream of the batch."""
        return [*(stream for stream, _ in batch.prompts), *batch.speakers]

    def describe(self, batch: Batch) -> tuple[str, int]:
        """The kind of step, "prefill" or "frame", and the streams in it."""
        return ("prefill", len(batch.prompts)) if batch.prompts else ("frame", len(batch.speakers))

    def step(self, batch: Batch) -> list[tuple[SpeechStream, Output | End]]:
        """Compute a chunk of voice prompts, or a frame. Returns the outputs."""
        self.counters.steps += 1
        if batch.prompts:
            self._prefill(batch.prompts)
            return []
        return self._speak(batch.speakers)

    def _prefill(self, prompts: list[tuple[SpeechStream, int]]) -> None:
        requests = [self.scheduler.requests[stream] for stream, _ in prompts]
        chunks = [
            request.message.voice.rows[request.prefilled : request.prefilled + positions]
            for request, (_, positions) in zip(requests, prompts, strict=True)
        ]
        started_s = self._clock()
        self.generator.prefill([request.slot for request in requests], chunks)
        total = sum(positions for _, positions in prompts)
        self.scheduler.step_times.record_prompt(total, self._clock() - started_s)
        self.counters.prompt_positions += total
        for request, (_, positions) in zip(requests, prompts, strict=True):
            request.prefilled += positions
            if request.is_prefilled:
                self._share_prompt(request)

    def _share_prompt(self, request: Request) -> None:
        """Keep a prompt just computed for later streams. Its full pages then belong to the shared prompt."""
        fingerprint = request.message.voice.fingerprint
        if request.is_forgotten or self.shared_prompts.find(fingerprint):
            return
        request.shared_prompt = self.shared_prompts.keep(fingerprint, request.slot, request.prompt_positions)
        if request.shared_prompt:
            request.shared_prompt.streams += 1
            self.scheduler.transfer_pages(request, request.prompt_positions // self.generator.kv.page_size)

    def _speak(self, speakers: list[SpeechStream]) -> list[tuple[SpeechStream, Output | End]]:
        outputs: list[tuple[SpeechStream, Output | End]] = []
        without: list[SpeechStream] = []
        fed: list[SpeechStream] = []
        thoughts: list[ThoughtInput] = []
        for stream in speakers:
            try:
                thought = self._next_thought(stream)
            except InvalidArgument as error:
                outputs.append((stream, End(error)))
                continue
            if thought is None:
                without.append(stream)
            else:
                fed.append(stream)
                thoughts.append(thought)
        if not without and not fed:
            return outputs
        requests = self.scheduler.requests
        started_s = self._clock()
        frames = self.generator.frame(
            [requests[stream].slot for stream in without], [requests[stream].slot for stream in fed], thoughts
        )
        now_s = self._clock()
        self.scheduler.step_times.record(len(frames), now_s - started_s)
        self.counters.frames += len(frames)
        for stream, codes in zip([*without, *fed], frames, strict=True):
            request = requests[stream]
            if codes[0] == NOT_FINITE:
                request.is_forgotten = True  # so that its values are erased before another stream gets its pages
                outputs.append((stream, End(NotFinite("the speech generator's values of this speech overflowed"))))
                continue
            for output in request.receive(codes, now_s):
                outputs.append((stream, output))
                if isinstance(output, SpeechEnd):
                    outputs.append((stream, End()))
            if request.segment_is_over:
                self.generator.restart(request.slot, request.prompt_positions)
                request.begin_segment()
        return outputs

    def _next_thought(self, stream: SpeechStream) -> ThoughtInput | None:
        """The thought that the stream's next frame takes, or None. Raises `InvalidArgument`."""
        request = self.scheduler.requests[stream]
        waiting = stream.inbox[0] if stream.inbox else None
        if waiting is not None and request.wants_thought:
            self.generator.check(waiting)
        thought = request.next_thought(waiting)
        if thought is not None and thought is waiting:
            stream.take_input()
        return thought


def measure(generator: Generator, widest: int, clock: Callable[[], float]) -> StepTimes:
    """Time frames of 1, 2, 4, ... and `widest` streams, half of them with thoughts, and a voice prompt.

    Each is timed when it runs for the second time, since the first run may include setup. Steps that are replayed from
    graphs must have been captured before. Takes one KV page for each stream.
    """
    times = StepTimes()
    for width in [*(1 << power for power in range(widest.bit_length()) if 1 << power < widest), widest]:
        prompt = generator.backbone.text_rows(torch.arange(4))
        slots = [generator.open(SamplingParams()) for _ in range(width)]
        for slot in slots:
            generator.prefill([slot], [prompt])
        _two_frames(generator, slots)
        started_s = clock()
        _two_frames(generator, slots)
        times.calibrate(width, (clock() - started_s) / 2)
        for slot in slots:
            generator.close(slot)
    slot = generator.open(SamplingParams())
    prompt = generator.backbone.text_rows(torch.arange(TIMED_PROMPT_POSITIONS) % len(generator.backbone.text_table))
    generator.prefill([slot], [prompt])
    generator.kv.truncate(slot, 0)
    started_s = clock()
    generator.prefill([slot], [prompt])
    times.record_prompt(len(prompt), clock() - started_s)
    generator.close(slot)
    return times


def _two_frames(generator: Generator, slots: list[int]) -> None:
    """A frame with a thought, then a frame without one, of every slot."""
    thought = ThoughtInput(0, generator.backbone.text_table[0])
    generator.frame([], slots, [thought] * len(slots))
    generator.frame(slots, [], [])
