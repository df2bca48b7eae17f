"""What is recorded of each pair: the reply, and what the instruments say about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from chroma_voice.eval.pairs import Kind
from chroma_voice.eval.sound import SoundStatistics


@dataclass
class ReplyRecord:
    """The reply to one pair. Waits are seconds since the question was complete. None: it is not known."""

    number: int
    question: str
    kind: Kind
    voice: str
    status: str = "OK"
    """Why there is no reply: the server's status, or `NO_SOUND` for a reply without a sample above silence."""
    message: str = ""
    text: str = ""
    ended: str = ""
    first_piece_s: float | None = None
    first_sound_s: float | None = None
    real_time_factor: float | None = None
    file: str = ""
    """The WAV file, from the folder of the results."""
    sound: SoundStatistics | None = None
    transcript: str | None = None
    wrong: int | None = None
    """Words substituted, deleted or inserted in the transcript."""
    words: int | None = None
    """Words of the text."""
    cosines: Mapping[str, float] = field(default_factory=dict)
    """Similarity to the recording of each voice. Empty: the encoder found no speech, or was not asked."""
    similarity: float | None = None
    """Similarity to the recording of its own voice; 0 for a reply without speech."""

    @property
    def is_reply(self) -> bool:
        """Whether there was a reply with sound."""
        return self.status == "OK"

    @property
    def word_error_rate(self) -> float | None:
        """Wrong words for each word of the text; more than 1 is possible. None: not known."""
        return None if self.wrong is None or not self.words else self.wrong / self.words

    @property
    def nearest(self) -> str:
        """The voice whose recording is most similar; empty when it is not known."""
        return max(self.cosines, key=self.cosines.__getitem__) if self.cosines else ""

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON has it."""
        return asdict(self) | {"word_error_rate": self.word_error_rate, "nearest": self.nearest}


ReferenceKind = Literal["recording", "itself", "other", "codec"]


@dataclass(frozen=True)
class Reference:
    """A measurement that replies are to be read beside.

    `recording`: word errors of the voice's own recording. `itself`: its similarity to another recording of the same
    voice, or of its two halves. `other`: its similarity to the recording of the voice `beside`. `codec`: both, of the
    recording after the codec's encoding and decoding.
    """

    kind: ReferenceKind
    voice: str
    beside: str = ""
    similarity: float | None = None
    wrong: int | None = None
    words: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the reference as JSON has it."""
        return asdict(self)
