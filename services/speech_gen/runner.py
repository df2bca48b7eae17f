"""The speech generator behind an engine: which streams step next, and what becomes of them.

A chunk of voice prompts and a frame of everybody who can speak take turns, and a chunk is no longer than the most
urgent speaker can wait, so that a long prompt stalls nobody. Among speakers, first frames go first, then the nearest
playback deadline. A paced stream rests while it is `max_lead_s` of sound ahead of its listener, who is taken to have
pressed play at the first frame; and the further ahead it is, the longer it waits for others to step with, since a
step of one stream takes nearly as long as a step of all.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable

from services.common.errors import InvalidArgument, ResourceExhausted
from services.runtime.checkpoint.tokenizer import Tokenizer
from services.runtime.engine.stream import End
from services.speech_gen.admission import Admission
from services.speech_gen.model.generator import Generator, Thought
from services.speech_gen.model.speech import Speech, SpeechEnd, most_rows
from services.speech_gen.model.text_breaks import TextBreaks
from services.speech_gen.shared_prompts import SharedPrompts
from services.speech_gen.step_times import StepTimes, measure
from services.speech_gen.work import Batch, Counters, Output, Place, SpeechStream

DEFAULT_PREFILL_ROWS = 256
MIN_PREFILL_ROWS = 16
PROMPT_PATIENCE_S = 0.25
"""However urgent the speakers are, a chunk of at least `MIN_PREFILL_ROWS` is done this often."""
DEFAULT_SHARED_PROMPTS = 64


class SpeechRunner:
    """A `Runner` for `services.runtime.engine.Engine`.

    Args:
        generator: the model; its slots bound the streams.
        tokenizer: tells where a reply too long for the model's positions can be parted; None: after any thought.
        width: most streams a step; default all slots.
        prefill_rows: most voice prompt rows a step.
        shared_prompts: most voice prompts kept for later streams.
        max_load: share of a frame's 80 ms that a frame of every stream may take, by measurement; a stream that would
            make it more is refused. The rest is for voice prompts. None: streams are refused for slots and pages only.
        clock: the engine's clock, monotonic seconds.
    """

    def __init__(
        self,
        generator: Generator,
        tokenizer: Tokenizer | None = None,
        *,
        width: int | None = None,
        prefill_rows: int = DEFAULT_PREFILL_ROWS,
        shared_prompts: int = DEFAULT_SHARED_PROMPTS,
        max_load: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.generator = generator
        self.counters = Counters()
        self.shared_prompts = SharedPrompts(generator.kv, shared_prompts)
        self._tokenizer = tokenizer
        self._width = width or generator.kv.free_slots
        self._prefill_rows = prefill_rows
        self._clock = clock
        self.step_times = StepTimes()
        self._places: dict[SpeechStream, Place] = {}
        self._admission = Admission(generator.kv.free_pages, self.shared_prompts, width=self._width, max_load=max_load)
        self._prompts_go_next = True
        self._prompted_s = -math.inf

    def warm_up(self) -> None:
        """Prove the device, and time it: frames with thoughts and frames without, of 1, 2, 4, ... streams."""
        self.generator.capture()
        widest = min(self._width, self.generator.kv.free_slots, self.generator.kv.free_pages)
        self.step_times = measure(self.generator, widest, self._clock)

    def admit(self, stream: SpeechStream) -> None:
        """Take a slot, and promise the pages the stream can come to need: an admitted stream never lacks one.

        Raises `ResourceExhausted` when all slots or pages are taken, or when the steps would become too slow for those
        who are speaking. A stream alone is admitted however slow the device is.
        """
        self._admission.check_pace(len(self._places) + 1, self.step_times)
        request, kv = stream.request, self.generator.kv
        shared = self.shared_prompts.find(request.voice.fingerprint)
        shared_rows = shared.prefix.rows if shared else 0
        pages = kv.pages_for(most_rows(request, kv.max_positions)) - shared_rows // kv.page_size
        if shared:
            shared.streams += 1  # so that making room does not evict it
        try:
            self._admission.make_room(pages)
            slot = self.generator.open(request.sampling, shared.prefix if shared else None)
        except ResourceExhausted:
            if shared:
                shared.streams -= 1
            raise
        self._admission.promise(pages)
        self.counters.shared_rows += shared_rows
        speech = Speech(request, slot, shared_rows, self.generator, TextBreaks(self._tokenizer))
        stream.state = Place(speech, self._clock(), pages, shared)
        self._places[stream] = stream.state

    def release(self, stream: SpeechStream) -> None:
        """Free slot and pages, whatever the stream was doing."""
        place = self._places.pop(stream)
        self.generator.close(place.speech.slot)
        self._admission.give_back(place.promised_pages)
        if place.shared_prompt:
            place.shared_prompt.streams -= 1

    def schedule(self, now_s: float) -> Batch | None:
        """A chunk of prompts and a frame of speakers in turn, when there are both."""
        able = self._able_speakers()
        prompts = self._waiting_prompts(self._prompt_room(able, now_s))
        speakers = self._due_speakers(able, now_s)
        if prompts and (self._prompts_go_next or not speakers):
            self._prompts_go_next = False
            self._prompted_s = now_s
            return Batch(prompts=prompts)
        self._prompts_go_next = True
        speakers.sort(key=lambda stream: self._places[stream].urgency)
        return Batch(speakers=speakers[: self._width]) if speakers else None

    def idle_s(self, now_s: float) -> float | None:
        """Seconds until a stream is due to speak again."""
        waits = [self._places[stream].due_s - now_s for stream in self._able_speakers()]
        return max(0.0, min(waits)) if waits else None

    def streams_of(self, batch: Batch) -> Iterable[SpeechStream]:
        """Every stream of the batch."""
        return [*(stream for stream, _ in batch.prompts), *batch.speakers]

    def describe(self, batch: Batch) -> tuple[str, int]:
        """Prefilling of voice prompts, or frames."""
        return ("prefill", len(batch.prompts)) if batch.prompts else ("frame", len(batch.speakers))

    def step(self, batch: Batch) -> list[tuple[SpeechStream, Output | End]]:
        """A chunk of prompts, or a frame."""
        self.counters.steps += 1
        if batch.prompts:
            self._prefill(batch.prompts)
            return []
        return self._speak(batch.speakers)

    def _prompt_room(self, speakers: list[SpeechStream], now_s: float) -> int:
        """Rows of a chunk after which there is still time for the most urgent speaker's next frame."""
        deadline_s = min((self._places[stream].deadline_s for stream in speakers), default=math.inf)
        wait_s = deadline_s - now_s - self.step_times.expected_s(min(len(speakers), self._width))
        rows = min(self.step_times.rows_within(0.75 * wait_s), self._prefill_rows)
        least = 0 if now_s < self._prompted_s + PROMPT_PATIENCE_S else MIN_PREFILL_ROWS
        return max(int(rows), min(least, self._prefill_rows))

    def _waiting_prompts(self, room: int) -> list[tuple[SpeechStream, int]]:
        """The next rows of prompts, oldest stream first, at most `room` together."""
        chosen: list[tuple[SpeechStream, int]] = []
        for stream, place in self._places.items():
            rows = min(room, place.speech.prompt_rows - place.speech.prefilled)
            if rows > 0:
                chosen.append((stream, rows))
                room -= rows
        return chosen

    def _able_speakers(self) -> list[SpeechStream]:
        """Streams that lack nothing for the next frame, pace aside."""
        return [
            stream
            for stream, place in self._places.items()
            if place.speech.is_prefilled
            and stream.has_room
            and (stream.inbox or stream.input_ended or not place.speech.wants_thought)
        ]

    def _due_speakers(self, able: list[SpeechStream], now_s: float) -> list[SpeechStream]:
        """Whoever may speak, as soon as anybody must."""
        if not any(self._places[stream].due_s <= now_s for stream in able):
            return []
        return [stream for stream in able if self._places[stream].ready_s <= now_s]

    def _prefill(self, prompts: list[tuple[SpeechStream, int]]) -> None:
        speeches = [self._places[stream].speech for stream, _ in prompts]
        chunks = [
            speech.request.voice.rows[speech.prefilled : speech.prefilled + rows]
            for speech, (_, rows) in zip(speeches, prompts, strict=True)
        ]
        started_s = self._clock()
        self.generator.prefill([speech.slot for speech in speeches], chunks)
        self.step_times.record_prompt(sum(rows for _, rows in prompts), self._clock() - started_s)
        for speech, (stream, rows) in zip(speeches, prompts, strict=True):
            speech.prefilled += rows
            self.counters.prompt_rows += rows
            if speech.is_prefilled:
                self._share_prompt(self._places[stream])

    def _share_prompt(self, place: Place) -> None:
        """Keep a prompt just prefilled for later streams; its full pages are no longer this stream's own."""
        speech, kv = place.speech, self.generator.kv
        name = speech.request.voice.fingerprint
        if self.shared_prompts.find(name):
            return
        place.shared_prompt = self.shared_prompts.keep(name, speech.slot, speech.prompt_rows)
        if place.shared_prompt:
            place.shared_prompt.streams += 1
            own = speech.prompt_rows // kv.page_size
            place.promised_pages -= own
            self._admission.give_back(own)

    def _speak(self, speakers: list[SpeechStream]) -> list[tuple[SpeechStream, Output | End]]:
        outputs: list[tuple[SpeechStream, Output | End]] = []
        alone: list[SpeechStream] = []
        fed: list[SpeechStream] = []
        thoughts: list[Thought] = []
        for stream in speakers:
            try:
                thought = self._next_thought(stream)
            except InvalidArgument as error:
                outputs.append((stream, End(error)))
                continue
            if thought is None:
                alone.append(stream)
            else:
                fed.append(stream)
                thoughts.append(thought)
        if not alone and not fed:
            return outputs
        started_s = self._clock()
        frames = self.generator.frame(
            [self._places[stream].speech.slot for stream in alone],
            [self._places[stream].speech.slot for stream in fed],
            thoughts,
        )
        now_s = self._clock()
        self.step_times.record(len(frames), now_s - started_s)
        self.counters.frames += len(frames)
        for stream, codes in zip([*alone, *fed], frames, strict=True):
            place = self._places[stream]
            place.first_frame_s = min(place.first_frame_s, now_s)
            place.last_frame_s = now_s
            for output in place.speech.hear(codes):
                outputs.append((stream, output))
                if isinstance(output, SpeechEnd):
                    outputs.append((stream, End()))
        return outputs

    def _next_thought(self, stream: SpeechStream) -> Thought | None:
        """The thought that the next frame takes, if it takes one. Raises `InvalidArgument`."""
        speech = self._places[stream].speech
        if speech.wants_thought and stream.inbox:
            self.generator.check(stream.inbox[0])
            if speech.parts_before(stream.inbox[0]):
                return speech.part_before(stream.inbox[0])
            thought = stream.take_input()
            speech.feed(thought)
            return thought
        speech.go_on_without_thought()
        return None
