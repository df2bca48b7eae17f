"""Admission, pacing and the choice of each step's batch. Bookkeeping only: nothing is computed here.

Steps alternate between a chunk of voice prompts and a frame of every stream that can speak. A chunk is no longer than
the most urgent speaker can wait, so a long prompt stalls no stream. Among speakers, first frames go first, then the
nearest playback deadline.

A paced stream makes no frame while it is `max_lead_s` of sound ahead of its playback, which is assumed to start with
the first frame. A step reads all weights once, whatever the number of streams. So streams that are ahead wait a little
for others, to take one step together. The greater a stream's lead, the longer it waits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from services.common.errors import ResourceExhausted
from services.common.wire.audio import FRAME_S
from services.runtime.engine.stream import Stream
from services.speech_gen.messages import Output, SpeechRequest
from services.speech_gen.model.generator import ThoughtInput
from services.speech_gen.request import Request
from services.speech_gen.shared_prompts import SharedPrompts
from services.speech_gen.step_times import StepTimes

SpeechStream = Stream[SpeechRequest, ThoughtInput, Output]

MAX_BATCHING_WAIT_S = FRAME_S
"""Longest wait for other streams: that of a stream whose lead is `max_lead_s`."""
MIN_CHUNK_POSITIONS = 16
MAX_CHUNK_GAP_S = 0.25
"""A chunk of at least `MIN_CHUNK_POSITIONS` is computed this often, however urgent the speakers are."""
CHUNK_SHARE = 0.75
"""Share of the most urgent speaker's spare time that a chunk may take."""


@dataclass
class Batch:
    """One step: chunks of voice prompts as (stream, positions), or a frame of each stream in `speakers`."""

    prompts: list[tuple[SpeechStream, int]] = field(default_factory=list)
    speakers: list[SpeechStream] = field(default_factory=list)


class Scheduler:
    """Decides which streams are admitted, and what each step does.

    For an admitted stream the scheduler reserves the most KV pages that it can need, so no stream waits for a page.

    Args:
        kv_pages: pages of the KV cache.
        shared_prompts: they hold pages too, and are evicted when a stream needs these.
        width: most streams in a step.
        chunk_positions: most voice prompt positions in a step.
        max_load: share of a frame's 80 ms that one frame of every stream may take; None: any.
    """

    def __init__(
        self, kv_pages: int, shared_prompts: SharedPrompts, *, width: int, chunk_positions: int, max_load: float | None
    ) -> None:
        self.requests: dict[SpeechStream, Request] = {}
        """The admitted streams, oldest first."""
        self.step_times = StepTimes()
        self.width = width
        self.chunk_positions = chunk_positions
        self._kv_pages = kv_pages
        self._shared_prompts = shared_prompts
        self._max_load = max_load
        self._reserved_pages = 0
        self._prompts_go_next = True
        self._last_chunk_s = -math.inf

    def check_load(self) -> None:
        """Raise `ResourceExhausted` if one more stream would make steps too slow for those that are speaking.

        The first stream passes however slow the device is.
        """
        streams = len(self.requests) + 1
        if streams == 1 or self._max_load is None:
            return
        full_steps, rest = divmod(streams, self.width)
        frame_s = full_steps * self.step_times.expected_s(self.width) + self.step_times.expected_s(rest)
        if frame_s > self._max_load * FRAME_S:
            raise ResourceExhausted(
                f"expected a frame of all streams to take {self._max_load * FRAME_S * 1e3:.0f} ms or less, with "
                f"{streams} it would take {frame_s * 1e3:.0f} ms",
                resource="step_time",
            )

    def make_room(self, pages: int) -> None:
        """Evict shared prompts until `pages` more can be reserved. Raises `ResourceExhausted`."""
        while self._reserved_pages + self._shared_prompts.pages + pages > self._kv_pages:
            if not self._shared_prompts.evict_one():
                raise ResourceExhausted(
                    f"expected {pages} KV pages free for this speech, {self._reserved_pages} of {self._kv_pages} are "
                    "reserved for others",
                    resource="kv_pages",
                )

    def add(self, stream: SpeechStream, request: Request) -> None:
        """Add an admitted stream and reserve the pages of its request."""
        self._reserved_pages += request.reserved_pages
        self.requests[stream] = request

    def remove(self, stream: SpeechStream) -> Request:
        """Forget a stream. Returns its request."""
        request = self.requests.pop(stream)
        self._reserved_pages -= request.reserved_pages
        return request

    def transfer_pages(self, request: Request, pages: int) -> None:
        """Count some of a request's reserved pages as pages of a shared prompt from now on."""
        request.reserved_pages -= pages
        self._reserved_pages -= pages

    def schedule(self, now_s: float) -> Batch | None:
        """The next step, or None when no stream has anything to do now."""
        able = self.able_speakers()
        prompts = self.waiting_prompts(self._chunk_room(able, now_s))
        speakers = self._due_speakers(able, now_s)
        if prompts and (self._prompts_go_next or not speakers):
            self._prompts_go_next = False
            self._last_chunk_s = now_s
            return Batch(prompts=prompts)
        self._prompts_go_next = True
        speakers.sort(key=lambda stream: _urgency(self.requests[stream]))
        return Batch(speakers=speakers[: self.width]) if speakers else None

    def idle_s(self, now_s: float) -> float | None:
        """Seconds until a stream is due to speak; None when none will be without new input."""
        waits = [_due_s(self.requests[stream]) - now_s for stream in self.able_speakers()]
        return max(0.0, min(waits)) if waits else None

    def waiting_prompts(self, positions: int) -> list[tuple[SpeechStream, int]]:
        """The next part of each prompt that is not complete, oldest stream first, `positions` at most in all."""
        chosen: list[tuple[SpeechStream, int]] = []
        for stream, request in self.requests.items():
            part = min(positions, request.prompt_positions - request.prefilled)
            if part > 0:
                chosen.append((stream, part))
                positions -= part
        return chosen

    def able_speakers(self) -> list[SpeechStream]:
        """The streams that have everything for their next frame: prompt, thought, and room for the output."""
        return [
            stream
            for stream, request in self.requests.items()
            if request.is_prefilled
            and stream.has_room
            and (stream.inbox or stream.input_ended or not request.wants_thought)
        ]

    def _due_speakers(self, able: list[SpeechStream], now_s: float) -> list[SpeechStream]:
        """All streams that may speak, once at least one of them is due."""
        if not any(_due_s(self.requests[stream]) <= now_s for stream in able):
            return []
        return [stream for stream in able if ready_s(self.requests[stream]) <= now_s]

    def _chunk_room(self, able: list[SpeechStream], now_s: float) -> int:
        """Positions of a chunk that leaves time for the most urgent speaker's next frame."""
        next_deadline_s = min((_deadline_s(self.requests[stream]) for stream in able), default=math.inf)
        spare_s = next_deadline_s - now_s - self.step_times.expected_s(min(len(able), self.width))
        positions = min(self.step_times.positions_within(CHUNK_SHARE * spare_s), self.chunk_positions)
        least = 0 if now_s < self._last_chunk_s + MAX_CHUNK_GAP_S else MIN_CHUNK_POSITIONS
        return max(int(positions), min(least, self.chunk_positions))


def ready_s(request: Request) -> float:
    """The moment from which the stream's lead allows its next frame."""
    lead_s = request.message.max_lead_s
    return -math.inf if lead_s is None or request.frames == 0 else _deadline_s(request) - lead_s


def _deadline_s(request: Request) -> float:
    """The moment at which playback needs the next frame."""
    return request.first_frame_s + request.frames * FRAME_S


def _due_s(request: Request) -> float:
    """The moment at which the stream starts a step instead of waiting for other streams.

    First frames and unpaced streams do not wait. A stream with less than its full lead waits an eighth of the lead
    that its last frame had, so its lead keeps growing. A stream with its full lead waits one frame's length. In this
    time every other such stream becomes ready too, so all of them take one step a frame together.
    """
    lead_s = request.message.max_lead_s
    if lead_s is None or request.frames == 0:
        return -math.inf
    wait_s = min(MAX_BATCHING_WAIT_S / 2, (_deadline_s(request) - request.last_frame_s) / 8)
    return max(request.last_frame_s + wait_s, ready_s(request) + min(MAX_BATCHING_WAIT_S, lead_s / 8))


def _urgency(request: Request) -> tuple[bool, float]:
    """Sort key of speakers, most urgent first: first frames by admission, then the others by deadline."""
    return (False, request.admitted_s) if request.frames == 0 else (True, _deadline_s(request))
