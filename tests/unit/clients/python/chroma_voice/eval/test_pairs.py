"""A question becomes what is sent."""

from pathlib import Path

import numpy as np

from chroma_voice.eval.asking import Given, Recorded, Typed
from chroma_voice.eval.pairs import Question
from tests.support.eval_results import write_sound


def test_text_is_typed_or_given() -> None:
    assert Question("a", "typed", "What now?").asked() == Typed("What now?")
    assert Question("a", "given", "Hello.").asked() == Given("Hello.")


def test_a_recording_is_read_at_16_khz(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", 0.5, 1.0, 8_000)
    asked = Question("a", "spoken", recording=path).asked()
    assert isinstance(asked, Recorded)
    assert (len(asked.samples), asked.sample_rate_hz) == (16_000, 16_000)
    assert np.median(asked.samples) > 0.4
