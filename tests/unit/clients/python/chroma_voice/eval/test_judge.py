"""A judge keeps the order of the recordings and compares each with the voices that it has."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from chroma_voice.eval.judge import Judge
from chroma_voice.eval.recognition.transcription import Recording

UNIT = np.eye(2, dtype=np.float32)


@pytest.fixture
def recordings(tmp_path: Path) -> list[Recording]:
    """Sounds of 0, 1, 2 and 3 tenths of a second."""
    for number in range(4):
        soundfile.write(tmp_path / f"{number}.wav", np.full(1600 * number, 0.5, np.float32), 16_000)
    return [Recording(tmp_path / f"{number}.wav", "ann", f"text {number}") for number in range(4)]


def encode(samples: np.ndarray) -> np.ndarray:
    if not len(samples):
        raise ValueError("silence")
    return UNIT[0]


def test_judgements_come_in_order_and_a_recording_without_sound_has_no_words(recordings: list[Recording]) -> None:
    done: list[int] = []
    judge = Judge(lambda samples: f"text {len(samples) // 1600}", encode, {"ann": UNIT[0], "ben": UNIT[1]}, at_once=3)
    judged = judge.judge(recordings, ["eos", "eos", "limit", None], lambda: done.append(1))
    assert [one.transcript for one in judged] == ["", "text 1", "text 2", "text 3"]
    assert [one.errors.wrong for one in judged] == [2, 0, 0, 0]
    assert [one.ended for one in judged] == ["eos", "eos", "limit", None]
    assert [one.likeness.nearest for one in judged] == [None, "ann", "ann", "ann"]
    assert len(done) == 4


def test_a_judge_with_other_prompts_compares_with_those_only(recordings: list[Recording]) -> None:
    judge = Judge(lambda samples: "text", encode, {"ann": UNIT[0]}).with_prompts({"ben": UNIT[1], "cat": UNIT[0]})
    [judged] = judge.judge(recordings[3:], [None], lambda: None)
    assert judged.likeness.cosines == {"ben": 0.0, "cat": 1.0}
