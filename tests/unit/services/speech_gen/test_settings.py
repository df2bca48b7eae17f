"""The speech generator's settings: how codes are drawn, and the load it takes."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from services.common.sampling import SamplingParams
from services.common.settings import read_settings
from services.speech_gen.runner import DEFAULT_SHARED_PROMPTS
from services.speech_gen.settings import SpeechGenSettings


def settings(**values: Any) -> SpeechGenSettings:
    return SpeechGenSettings(model="somewhere", **values)


def test_the_checkpoints_sampling_holds_where_no_setting_says_otherwise() -> None:
    checkpoint = SamplingParams(temperature=0.4, top_k=30)
    assert settings().sampling_defaults(checkpoint) == checkpoint
    assert settings(top_p=0.9).sampling_defaults(checkpoint) == SamplingParams(temperature=0.4, top_k=30, top_p=0.9)


def test_the_environment_sets_the_sampling_of_the_published_models_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMA_TEMPERATURE", "0.7")
    monkeypatch.setenv("CHROMA_TOP_K", "40")
    monkeypatch.setenv("CHROMA_TOP_P", "0.9")
    greedy = SamplingParams(greedy=True)
    assert settings().sampling_defaults(greedy) == SamplingParams(temperature=0.7, top_k=40, top_p=0.9)


@pytest.mark.parametrize("values", [{"temperature": 0}, {"temperature": "inf"}, {"top_k": 0}, {"top_p": 1.1}])
def test_a_sampling_setting_out_of_range_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(**values)


def test_only_a_gpu_has_a_load_limit_when_none_is_set() -> None:
    assert settings(device="cuda:0").load_limit == 0.8
    assert settings(device="cpu").load_limit is None
    assert settings(device="cpu", max_load=0.5).load_limit == 0.5


def test_the_slots_of_this_process_alone_beat_the_slots_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMA_MODEL", "folder")
    monkeypatch.setenv("CHROMA_SLOTS", "3")
    assert read_settings(SpeechGenSettings).slots == 3
    monkeypatch.setenv("CHROMA_SPEECH_GEN_SLOTS", "5")
    assert read_settings(SpeechGenSettings).slots == 5


def test_as_many_prompts_are_shared_by_default_as_by_the_runner() -> None:
    assert settings().shared_prompts == DEFAULT_SHARED_PROMPTS
