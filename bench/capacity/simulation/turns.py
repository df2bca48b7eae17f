"""One turn in simulated time: three calls joined in order, as in gateway/pipeline/turn.py.

The Think call begins with the question's first sound. If every reasoner is full then, it is tried once more at the
commit. Speak and Decode begin at the commit. A call that every replica refuses ends the turn, and so does a replica
that goes away.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Literal

import simpy

from bench.capacity.simulation.codec import DecodeStream
from bench.capacity.simulation.engines import EngineStream, Lost, Refused
from bench.capacity.simulation.fleet import SERVICES, Fleet, Replica
from bench.capacity.simulation.reasoner import CHUNK_S, POSITIONS_PER_CHUNK, ThinkStream
from bench.capacity.simulation.speech import SpeechStream
from bench.capacity.simulation.workload import Workload
from chroma_voice.bench.listening.playback import PlaybackClock
from services.common.wire.audio import FRAME_S

Outcome = Literal["completed", "interrupted", "refused", "lost", "unfinished"]

HOLD_S = 10 * FRAME_S
NEAR_S = 0.25
GROUP_FRAMES = 64
"""How frames share a message, as in services/runtime/engine/groups.py and services/speech_gen/servicer.py."""
FIRST_THOUGHTS = 4
"""Thoughts that travel alone. Later ones are far ahead of the speech, so their way does not count."""

Process = Generator[simpy.Event, Any, Any]


@dataclass
class TurnResult:
    """What became of a turn. `asked_s` is the end of the question; the other times are seconds from there."""

    conversation: int
    number: int
    asked_s: float
    outcome: Outcome = "unfinished"
    refused_by: str = ""
    first_sound_s: float | None = None
    gaps: int = 0
    stages_s: dict[str, float] = field(default_factory=dict)
    """From the commit at the gateway until the prompt was prefilled, the first frame and the first sound came."""


@dataclass
class Memory:
    """What a conversation leaves at a reasoner for its next turn."""

    positions: int = 0
    replica: Replica | None = None


class Turn:
    """A turn under way. `news` is renewed with each piece of sound and at the end."""

    def __init__(
        self,
        fleet: Fleet,
        workload: Workload,
        memory: Memory,
        result: TurnResult,
        *,
        question: int,
        voice: str,
        dice: random.Random,
    ) -> None:
        self.result = result
        self.clock = PlaybackClock()
        self.is_over = False
        self.news = fleet.env.event()
        self._env = fleet.env
        self._fleet = fleet
        self._workload = workload
        self._memory = memory
        self._question_s = workload.questions_s[question]
        self._voice = voice
        self._frames = workload.frames(question, voice, dice)
        self._thoughts = workload.thoughts(self._frames)
        self._keeps_prefix = dice.random() < workload.prefix_kept
        self._open: dict[EngineStream, Replica] = {}
        self._think: ThinkStream | None = None
        self._speech: SpeechStream | None = None
        self._decode: DecodeStream | None = None
        self._made = 0
        self._frame_news = fleet.env.event()
        self._frames_out = 0
        self._frames_heard = 0
        self._commit_s = math.inf

    def run(self, begins_s: float) -> Process:
        """Speak the question from `begins_s` on, which may be a moment ago, and reply."""
        env, hop_s = self._env, self._workload.hop_s
        yield env.timeout(hop_s)
        yield from self._open_think()
        whole = self._whole_chunks
        for chunk in range(1, whole + 1):
            yield env.timeout(max(0.0, begins_s + chunk * CHUNK_S + hop_s - env.now))
            if self._think is not None:
                self._open[self._think].reasoner.take(self._think, chunks=1)
        yield env.timeout(max(0.0, begins_s + self._question_s - env.now))
        yield env.timeout(2 * self._hop_s)
        if self.is_over:
            return
        self._commit_s = env.now
        if not (yield from self._commit(chunks_there=whole if self._think is not None else 0)):
            return
        speaking, decoding = env.process(self._speak()), env.process(self._open_codec())
        yield speaking & decoding
        if not self.is_over:
            yield from self._forward_frames()

    @property
    def _hop_s(self) -> float:
        """The time of a message now."""
        return self._workload.hop_s * self._fleet.slowdown()

    @property
    def _whole_chunks(self) -> int:
        """Chunks of audio that are complete before the question ends."""
        return max(0, math.ceil(self._question_s / CHUNK_S - 1e-9) - 1)

    def _commit(self, chunks_there: int) -> Generator[simpy.Event, Any, bool]:
        """Give the reasoner all that it does not have, and commit. False: all reasoners are full."""
        if self._think is None:
            yield from self._open_think()
        think = self._think
        if think is None or self.is_over:
            self._end("refused", "reasoner")
            return False
        reasoner = self._open[think].reasoner
        reasoner.take(think, chunks=self._whole_chunks + 1 - chunks_there)
        missing_s = (self._whole_chunks + 1) * CHUNK_S - self._question_s  # the last chunk is shorter
        missing = min(round(missing_s * self._workload.positions_per_s), POSITIONS_PER_CHUNK - 1)
        reasoner.commit(think, self._workload.fixed_positions - missing)
        return True

    def cancel(self) -> None:
        """The user interrupts: all slots are freed."""
        if not self.is_over:
            self._end("interrupted")

    def _open_think(self) -> Process:
        """Get a slot of a reasoner, if one is free."""
        memory, workload = self._memory, self._workload

        def make(replica: Replica) -> ThinkStream:
            stream = ThinkStream(
                self._env.event(), self._env.now, self._lost_think, thoughts=self._thoughts, took=self._took_thoughts
            )
            is_kept = replica is memory.replica and self._keeps_prefix
            # The reply before is part of the prompt, as text that the cache has too when it has the prefix.
            prompt = workload.fixed_positions if is_kept else workload.system_positions + memory.positions
            stream.prefill, stream.has_input = prompt, True
            return stream

        stream = yield from self._admitted("reasoner", f"session {self.result.conversation}", make)
        if stream is not None:
            memory.replica = self._open[stream]
            self._think = stream

    def _speak(self) -> Process:
        """Get a slot of a speech generator, and give it the thoughts."""

        def make(replica: Replica) -> SpeechStream:
            is_new = self._voice not in replica.voices
            replica.voices.add(self._voice)
            return SpeechStream(
                self._env.event(),
                self._env.now,
                self._lost_speech,
                total_frames=self._frames,
                total_thoughts=self._thoughts,
                max_lead_s=self._workload.max_lead_s,
                took=self._took_frame,
                voice_positions=self._workload.voice_positions if is_new else 0,
            )

        yield self._env.timeout(self._hop_s)
        stream = yield from self._admitted("speech_gen", f"voice {self._voice}", make)
        if stream is None:
            return self._end("refused", "speech_gen")
        self._speech = stream
        if self._made:
            self._open[stream].speech_gen.take_thoughts(stream, self._made)

    def _open_codec(self) -> Process:
        """Get a slot of a codec."""

        def make(_: Replica) -> DecodeStream:
            return DecodeStream(self._env.event(), self._env.now, self._lost_decode, took=self._took_sound)

        yield self._env.timeout(self._hop_s)
        key = f"turn {self.result.conversation} {self.result.number}"
        self._decode = yield from self._admitted("codec", key, make)
        if self._decode is None:
            self._end("refused", "codec")
        elif self._frames_out:
            self._feed(self._frames_out)

    def _admitted(
        self, service: str, key: str, make: Callable[[Replica], Any]
    ) -> Generator[simpy.Event, Any, Any | None]:
        """Try replica after replica. None: each is full or away, or the turn is over."""
        for replica in self._fleet.candidates(service, key):
            if self.is_over:
                return None
            stream = make(replica)
            try:
                yield replica.engine(service).open(stream)
            except Refused:
                self._fleet.note_full(service, replica)
            except Lost:
                continue
            else:
                self._open[stream] = replica
                if self.is_over:
                    replica.engine(service).leave(stream)
                    return None
                return stream
        return None

    def _took_thoughts(self, count: int) -> None:
        self._made += count
        self.result.stages_s.setdefault("hearing", self._env.now - self._commit_s)
        if self._made > FIRST_THOUGHTS:
            self._pass_thoughts(count)
        else:
            self._later(2 * self._hop_s, lambda: self._pass_thoughts(count))

    def _pass_thoughts(self, count: int) -> None:
        speech = self._speech
        if speech is not None and not speech.left:
            self._open[speech].speech_gen.take_thoughts(speech, count)

    def _took_frame(self) -> None:
        self.result.stages_s.setdefault("first frame", self._env.now - self._commit_s)
        if not self._frame_news.triggered:
            self._frame_news.succeed()
        self._look_for_end()

    def _forward_frames(self) -> Process:
        """Pass frames on to the codec. Frames whose playback is not near wait, to share a message."""
        env = self._env
        began_s = None
        while not self.is_over and not self._is_forwarded:
            speech = self._speech
            if speech is None or self._frames_out == speech.frames:
                self._frame_news = env.event()
                yield self._frame_news
                continue
            began_s = env.now if began_s is None else began_s
            ahead_s = self._frames_out * FRAME_S - (env.now - began_s)
            if (wait_s := min(HOLD_S, (ahead_s - NEAR_S) / 2)) > 0:
                yield env.timeout(wait_s)
            count = min(GROUP_FRAMES, speech.frames - self._frames_out)
            self._frames_out += count
            self._later(2 * self._hop_s, lambda count=count: self._feed(count))

    @property
    def _is_forwarded(self) -> bool:
        """Whether all frames of the reply are on their way to the codec."""
        return self._speech is not None and self._speech.ended and self._frames_out == self._speech.frames

    def _feed(self, count: int) -> None:
        if self._decode is not None and not self._decode.left:
            self._open[self._decode].codec.feed(self._decode, count)

    def _took_sound(self, frames: int) -> None:
        self._later(2 * self._hop_s, lambda: self._sound(frames))

    def _sound(self, frames: int) -> None:
        """Sound arrives at the listener."""
        if self.is_over:
            return
        now_s = self._env.now
        if self.result.first_sound_s is None:
            self.result.first_sound_s = now_s - self.result.asked_s
            self.result.stages_s["first sound"] = now_s - self._commit_s
        self.clock.add(now_s, frames * FRAME_S)
        self._frames_heard += frames
        self._look_for_end()
        if not self.is_over:
            self._tell()

    def _look_for_end(self) -> None:
        """The turn ends when its speech has ended and all of it has come."""
        if self._speech is not None and self._speech.ended and self._frames_heard == self._speech.frames:
            self._end("completed")

    def _lost_think(self) -> None:
        """The reasoner went away. Before its first thought another one takes the turn, now or at the commit."""
        self._think = None
        if self._made:
            self._end("lost")
        elif self._commit_s < math.inf:
            self._env.process(self._commit(chunks_there=0))

    def _lost_speech(self) -> None:
        """The speech generator went away. Before its first frame another one takes the reply."""
        begun = self._speech is not None and self._speech.frames > 0
        self._speech = None
        if begun:
            self._end("lost")
        elif not self.is_over:
            self._env.process(self._speak())

    def _lost_decode(self) -> None:
        """The codec went away. Before its first sound another one takes the frames."""
        self._decode = None
        if self._frames_heard:
            self._end("lost")
        elif not self.is_over:
            self._env.process(self._open_codec())

    def _end(self, outcome: Outcome, refused_by: str = "") -> None:
        if self.is_over:
            return
        self.is_over = True
        if self._made:
            spoken = round(self._question_s * self._workload.positions_per_s) + self._workload.fixed_positions
            self._memory.positions += spoken + self._made
        self.result.outcome, self.result.refused_by = outcome, refused_by
        self.result.gaps = len(self.clock.gaps)
        for service, stream in ((SERVICES[0], self._think), (SERVICES[1], self._speech), (SERVICES[2], self._decode)):
            if stream is not None:
                self._open[stream].engine(service).leave(stream)
        if not self._frame_news.triggered:
            self._frame_news.succeed()
        self._tell()

    def _tell(self) -> None:
        news, self.news = self.news, self._env.event()
        news.succeed()

    def _later(self, wait_s: float, call: Callable[[], None]) -> None:
        if wait_s <= 0:
            call()
            return
        timeout = self._env.timeout(wait_s)
        assert timeout.callbacks is not None, "a new event has callbacks"
        timeout.callbacks.append(lambda _: call())
