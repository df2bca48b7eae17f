"""What becomes of the client's sound: all of it is the user's turn or, with turn detection, what lies in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gateway.conversation.options import ConversationOptions
from gateway.conversation.vad import Started, Stopped, TurnDetection, TurnDetector
from gateway.pipeline.turn_input import UserInput
from services.common.errors import InvalidArgument
from services.common.wire.pcm import decode_pcm


class InputAudioBuffer:
    """One client's ear. `turn` gives the input of the turn that is heard, and starts one when there is none."""

    def __init__(self, turn: Callable[[], UserInput]) -> None:
        self._turn = turn
        self._terms = ConversationOptions()
        self._detector: TurnDetector | None = None

    def retune(self, terms: ConversationOptions) -> None:
        """Hear sound of another format, or find other turns, from here on. Raises InvalidArgument for turn detection
        that makes no sense."""
        before, self._terms = self._terms, terms
        if (terms.turn_detection, terms.input_format) == (before.turn_detection, before.input_format):
            return
        self.end()
        self._detector = None
        if terms.turn_detection is not None and terms.input_format is not None:
            self._detector = TurnDetector(terms.turn_detection, terms.input_format.sample_rate_hz)

    @property
    def detection(self) -> TurnDetection:
        """The turn detection in use."""
        return self._terms.turn_detection or TurnDetection()

    def hear(self, data: bytes) -> Iterator[Started | Stopped]:
        """Put sound into the turns it belongs to, and tell where they start and stop. A start is told before its turn
        is asked for.

        Raises InvalidArgument when there is to be no sound and, with turn detection, for broken samples.
        """
        if self._terms.input_format is None:
            raise InvalidArgument("expected no audio: `open` gave no `input_format`")
        if self._detector is None:
            self._turn().add_audio(data)
            return
        for piece in self._detector.push(decode_pcm(data, self._terms.input_format.encoding)):
            if isinstance(piece, (Started, Stopped)):
                yield piece
            else:
                self._turn().add_samples(piece)

    def record(self, data: bytes) -> None:
        """Put a whole recording into the turn. Raises InvalidArgument when there is to be no sound."""
        if self._terms.input_format is None:
            raise InvalidArgument("expected no audio: `open` gave no `input_format`")
        turn = self._turn()
        turn.end_audio()
        turn.add_audio(data)
        turn.end_audio()

    def end(self) -> None:
        """Speech that goes on now belongs to another turn: the rest of what was heard goes into this one."""
        if self._detector is not None and self._detector.speaking:
            self._turn().add_samples(self._detector.cut())

    def forget(self) -> None:
        """Forget what was heard and is in no turn yet."""
        if self._detector is not None:
            self._detector.cut()
