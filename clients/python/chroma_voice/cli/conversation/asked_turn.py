"""One turn of `chroma-voice talk`: what is asked, and what came back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from chroma_voice.cli.conversation.question import Recording
from chroma_voice.conversation import Conversation
from chroma_voice.events import TurnDone


@dataclass(frozen=True)
class AskedTurn:
    """A recording, a text or both; or a text that the voice is to say."""

    path: Path | None = None
    recording: Recording | None = None
    text: str = ""
    say: str = ""

    @property
    def rate_hz(self) -> int | None:
        """The sample rate of the recording. None: there is none."""
        return self.recording.sample_rate_hz if self.recording else None

    async def ask(self, conversation: Conversation, *, verbatim: bool) -> None:
        """Send the turn."""
        if self.say:
            await conversation.say(self.say, verbatim=verbatim)
            return
        if self.recording:
            await conversation.send_audio(self.recording.data)
        if self.text:
            await conversation.send_text(self.text)
        await conversation.commit()


@dataclass(frozen=True)
class ReceivedTurn:
    """A finished turn, with the times at which this client received its sound, in seconds since the commit."""

    done: TurnDone
    first_sound_s: float | None
    last_sound_s: float | None
