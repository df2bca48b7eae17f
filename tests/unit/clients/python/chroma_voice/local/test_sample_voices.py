from __future__ import annotations

from pathlib import Path

import pytest

from chroma.v1 import dialogue_pb2
from chroma_voice.local.repository import SampleVoice
from chroma_voice.local.sample_voices import enrol
from tests.support.fake_gateway import FakeGateway, serving


@pytest.fixture
def voices(tmp_path: Path) -> list[SampleVoice]:
    recording = tmp_path / "recording.wav"
    recording.write_bytes(b"sound" * 40)
    return [SampleVoice(name, recording, f"I am {name}.", "a synthetic voice") for name in ("ann", "ben")]


async def test_a_gateway_without_voices_gets_them_all(voices: list[SampleVoice], gateway: FakeGateway) -> None:
    gateway.voices.clear()
    async with serving(gateway) as address:
        assert await enrol(voices, address, only_if_none=True) == ["ann", "ben"]
    ann = gateway.voices["ann"]
    assert (ann.display_name, ann.transcript, ann.consent) == ("Ann", "I am ann.", "a synthetic voice")
    assert ann.duration_s == 2.0


async def test_a_gateway_with_a_voice_is_left_alone(voices: list[SampleVoice], gateway: FakeGateway) -> None:
    async with serving(gateway) as address:
        assert await enrol(voices, address, only_if_none=True) == []
    assert set(gateway.voices) == {"reader"}


async def test_asked_for_they_are_added_to_other_voices_and_replace_none(
    voices: list[SampleVoice], gateway: FakeGateway
) -> None:
    own = gateway.voices["ann"] = dialogue_pb2.Voice(voice_id="ann", duration_s=7.1)
    async with serving(gateway) as address:
        assert await enrol(voices, address, only_if_none=False) == ["ben"]
    assert gateway.voices["ann"] is own


async def test_the_key_of_the_launcher_goes_along(voices: list[SampleVoice], gateway: FakeGateway) -> None:
    async with serving(gateway) as address:
        await enrol(voices, address, only_if_none=False, api_key="cv_key")
    assert {metadata["authorization"] for metadata in gateway.metadata} == {"Bearer cv_key"}
