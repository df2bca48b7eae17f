"""A generated reply is compared with its recording, code by code."""

from __future__ import annotations

import numpy as np
import pytest
from rich.console import Console

from services.common.sampling import SamplingParams
from services.speech_gen.messages import EndReason, SpeechRequest
from train.speech.examples import CodedRecording
from train.speech.free_running import GeneratedReply, summary_table

CODES = np.arange(32).reshape(4, 8)


def reply(frames: np.ndarray, end: EndReason = EndReason.EOS) -> GeneratedReply:
    recording = CodedRecording((1, 2), (CODES,), 1.0)
    request = SpeechRequest(None, SamplingParams(), 9)  # type: ignore[arg-type]  # the comparison reads no voice
    return GeneratedReply("amber", recording, [], request, [tuple(frame) for frame in frames.tolist()], end)


def test_equal_codes_count_only_at_the_same_position() -> None:
    wrong_in_codebook_0 = CODES.copy()
    wrong_in_codebook_0[:2, 0] += 1
    assert reply(CODES).share_equal() == 1.0
    assert reply(wrong_in_codebook_0).share_equal(0) == 0.5
    assert reply(wrong_in_codebook_0).share_equal() == pytest.approx(30 / 32)
    assert reply(CODES[1:]).share_equal() == 0.0


def test_missing_frames_count_as_wrong() -> None:
    assert reply(CODES[:3]).share_equal() == 0.75
    assert reply(CODES[:0]).share_equal() == 0.0


def test_the_table_has_means_by_voice() -> None:
    console = Console(width=150, record=True)
    console.print(summary_table([reply(CODES), reply(CODES[:2], EndReason.MAX_FRAMES)]))
    [row] = [line for line in console.export_text().splitlines() if "amber" in line]
    assert [cell.strip() for cell in row.strip("│ ").split("│")] == ["amber", "2", "50.0%", "1.00", "75.0%", "75.0%"]
