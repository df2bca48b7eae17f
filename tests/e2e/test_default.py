"""`chroma-voice up` without options runs chroma-nano with the sample voices."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chroma_voice.local.repository import sample_voices
from tests.support.local_stack import QUESTION, LocalStack, run


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    stack = LocalStack(tmp_path_factory.mktemp("default"), model="")
    printed = stack.start()
    try:
        assert "random weights" not in printed
        assert f"enrolled the sample voices {', '.join(voice.voice_id for voice in sample_voices())}" in printed
        yield stack
    finally:
        stack.stop()


def test_recorded_question_of_the_domain_is_answered(default: LocalStack, tmp_path: Path) -> None:
    voice = sample_voices()[0].voice_id
    printed = run("talk", QUESTION, "--voice", voice, "--state", default.folder.path, "--out", tmp_path / "reply.wav")
    assert "taco" in (tmp_path / "reply.txt").read_text().lower()
    assert "by its own end" not in printed  # said of a speech that something else ended


async def test_sample_voices_are_there_for_the_page(default: LocalStack) -> None:
    async with default.client() as client:
        voices = {voice.voice_id async for voice in client.list_voices()}
    assert voices == {voice.voice_id for voice in sample_voices()}
