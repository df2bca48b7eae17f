"""`chroma-voice up` without a model runs chroma-nano with the sample voices."""

from __future__ import annotations

from pathlib import Path

from chroma_voice.local.repository import sample_voices
from tests.support.documented_stack import DocumentedStack
from tests.support.local_stack import QUESTION


def test_the_start_says_which_voices_are_there(documented: DocumentedStack) -> None:
    assert "random weights" not in documented.printed
    names = ", ".join(voice.voice_id for voice in sample_voices())
    assert f"enrolled the sample voices {names}" in documented.printed


def test_recorded_question_of_the_domain_is_answered(documented: DocumentedStack, tmp_path: Path) -> None:
    out = tmp_path / "reply.wav"
    printed = documented.run(f"chroma-voice talk {QUESTION} --voice {sample_voices()[0].voice_id} --out {out} 2>&1")
    assert "taco" in (tmp_path / "reply.txt").read_text().lower()
    assert "by its own end" not in printed  # said of a speech that something else ended


def test_sample_voices_are_there(documented: DocumentedStack) -> None:
    _, *lines = documented.run("COLUMNS=1000 chroma-voice voice list").splitlines()
    assert {line.split()[0] for line in lines} == {voice.voice_id for voice in sample_voices()}
