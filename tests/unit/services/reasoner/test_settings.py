from __future__ import annotations

import pytest

from services.common.settings import read_settings
from services.reasoner.settings import ReasonerSettings


def test_the_slots_of_this_process_alone_beat_the_slots_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMA_MODEL", "folder")
    monkeypatch.setenv("CHROMA_SLOTS", "3")
    assert read_settings(ReasonerSettings).slots == 3
    monkeypatch.setenv("CHROMA_REASONER_SLOTS", "5")
    assert read_settings(ReasonerSettings).slots == 5


def test_audio_longer_than_the_model_takes_is_no_setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHROMA_MODEL", "folder")
    monkeypatch.setenv("CHROMA_MAX_AUDIO_S", "301")
    with pytest.raises(SystemExit):
        read_settings(ReasonerSettings)
    assert "bad setting CHROMA_MAX_AUDIO_S" in capsys.readouterr().err
