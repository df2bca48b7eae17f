from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from chroma_voice.cli.conversation import waterfall_picture
from chroma_voice.cli.conversation.waterfall import Stage, Turn

STAGES = (
    Stage("hearing", "reasoner", "#000000", 0.0, 0.04, 0.04),
    Stage("sounding", "codec", "#000000", 0.04, 0.12, 2.0),
    Stage("delivery", "gateway to you", "#000000", 0.12, 0.121, 0.121),
)


def drawn(turn: Turn) -> tuple[list[str], list[list[str]]]:
    """The texts of the figure, and those of its charts."""
    figure = Figure()
    waterfall_picture.draw(figure, turn)
    charts = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    return [text.get_text() for text in figure.texts], charts


def test_the_headline_is_the_first_sound_and_each_stage_has_its_row() -> None:
    texts, (until_sound, whole) = drawn(Turn(STAGES, 0.121, 2.0, 6.4))
    assert texts[0] == "First sound after 121 ms"
    assert "6.40 s of speech made in 2.00 s" in texts[1]
    assert {"hearing", "sounding", "delivery"} <= set(until_sound)
    assert {"hearing", "sounding", "playing"} <= set(whole)
    assert "delivery" not in whole


@pytest.mark.parametrize("sound_s", [0.0, 1.0])
def test_a_turn_without_a_first_sound_has_no_playback(sound_s: float) -> None:
    texts, (_, whole) = drawn(Turn(STAGES[:1], None, 0.04, sound_s))
    assert texts[0] == "No sound"
    assert "playing" not in whole


def test_a_turn_without_sound_is_saved_as_a_picture(tmp_path: Path) -> None:
    waterfall_picture.save(Turn(STAGES[:1], None, 0.04, 0.0), tmp_path / "turn.png")
    assert (tmp_path / "turn.png").stat().st_size > 10_000
