"""The transcript of speech that goes on: the words on which two passes over the speech so far agree.

The reasoner writes down a whole recording. So while the user speaks, the speech so far is written down again whenever
it has grown by a quarter, and by two seconds at least. Words that two passes in a row agree on are sent; the last word
of a pass may be cut and waits. The pass over the whole recording gives the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

_MIN_GROWTH_S = 2.0
_GROWTH = 0.25


@dataclass
class EarlyTranscript:
    """What is known of one recording under way."""

    sent: str = ""
    """The words that the client has."""
    last: str = ""
    """The text of the pass before."""
    passed_s: float = 0.0
    """Seconds of speech in that pass."""

    def is_due(self, audio_s: float) -> bool:
        """Whether speech of this length should be written down again."""
        return audio_s - self.passed_s >= max(_MIN_GROWTH_S, self.passed_s * _GROWTH)

    def take(self, text: str, audio_s: float) -> str:
        """Take the text of a pass over so many seconds of speech. Returns the words to send, often none."""
        agreed = _whole_words(_common_start(self.last, text))
        self.last, self.passed_s = text, audio_s
        if len(agreed) <= len(self.sent) or not agreed.startswith(self.sent):
            return ""
        words, self.sent = agreed[len(self.sent) :], agreed
        return words

    def rest(self, text: str) -> str:
        """Return what the whole transcript, or a start of it, has beyond the words that were sent. Nothing when it does
        not begin with them: the transcript as a whole corrects them."""
        return text[len(self.sent) :] if text.startswith(self.sent) else ""


def _common_start(one: str, other: str) -> str:
    length = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:length]


def _whole_words(text: str) -> str:
    """The text without its last word, which may be cut. The blank before that word goes too."""
    return text.rpartition(" ")[0]
