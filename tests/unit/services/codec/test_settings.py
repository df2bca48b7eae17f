from __future__ import annotations

import pytest

from services.codec.settings import CodecSettings
from services.common.settings import read_settings


def test_the_slots_of_this_process_alone_beat_the_slots_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMA_MODEL", "folder")
    monkeypatch.setenv("CHROMA_SLOTS", "3")
    assert read_settings(CodecSettings).slots == 3
    monkeypatch.setenv("CHROMA_CODEC_SLOTS", "5")
    assert read_settings(CodecSettings).slots == 5


def test_encode_streams_have_slots_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMA_MODEL", "folder")
    monkeypatch.setenv("CHROMA_SLOTS", "3")
    monkeypatch.setenv("CHROMA_ENCODE_SLOTS", "2")
    settings = read_settings(CodecSettings)
    assert (settings.slots, settings.encode_slots) == (3, 2)
