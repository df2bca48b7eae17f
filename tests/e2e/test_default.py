"""`chroma-voice up` without a model runs chroma-nano with the sample voices."""

from __future__ import annotations

from pathlib import Path

from chroma_voice.local.repository import sample_voices
from tests.support.documented_stack import DocumentedStack
from tests.support.local_stack import QUESTION, run


def test_the_start_says_which_voices_are_there(documented: DocumentedStack) -> None:
    assert "random weights" not in documented.printed
    names = ", ".join(voice.voice_id for voice in sample_voices())
    assert f"enrolled the sample voices {names}" in documented.printed


def test_recorded_question_of_the_domain_is_answered(documented: DocumentedStack, tmp_path: Path) -> None:
    state, out = documented.stack.folder.path, tmp_path / "reply.wav"
    printed = run("talk", QUESTION, "--voice", sample_voices()[0].voice_id, "--state", state, "--out", out)
    assert "taco" in (tmp_path / "reply.txt").read_text().lower()
    assert "by its own end" not in printed  # said of a speech that something else ended


async def test_sample_voices_are_there_for_the_page(documented: DocumentedStack) -> None:
    async with documented.stack.client() as client:
        voices = {voice.voice_id async for voice in client.list_voices()}
    assert voices == {voice.voice_id for voice in sample_voices()}
