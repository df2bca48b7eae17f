"""The flite program speaks at the speed and shift that are asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from train.corpus.tts.flite import Flite


@pytest.mark.parametrize("shift", [0.8, 1.0, 1.25])
@pytest.mark.parametrize("speed", [0.9, 1.1])
def test_a_shifted_flite_voice_keeps_the_speed_that_is_asked_for(flite: Flite, shift: float, speed: float) -> None:
    sound = flite.voice("shifted", "slt", shift).say("hello", speed)
    assert sound.seconds == pytest.approx(1.0 / speed, abs=0.01)
    assert sound.sample_rate_hz == 16_000


def test_a_failure_of_flite_is_reported(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="flite failed"):
        Flite("false").say("hello", "slt", 1.0)
