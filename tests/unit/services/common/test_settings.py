from __future__ import annotations

import os
import subprocess
import sys
from typing import ClassVar

import pytest
from pydantic import Field

from services.common.settings import ModelSettings, ServiceSettings, read_settings, split_address
from tests.support.paths import ROOT


class KeyedSettings(ServiceSettings):
    """Settings with a secret inside a value."""

    service: ClassVar[str] = "gateway"
    api_keys: dict[str, str] = Field(default_factory=dict)


class CodecLikeSettings(ModelSettings):
    """Settings of a process with a name."""

    service: ClassVar[str] = "codec"


def refusal(settings_type: type[ServiceSettings], capsys: pytest.CaptureFixture[str]) -> str:
    """What the process prints when it refuses to start."""
    with pytest.raises(SystemExit) as ended:
        read_settings(settings_type)
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMA_MODEL", "some/folder")
    monkeypatch.setenv("CHROMA_THREADS", "3")
    settings = read_settings(ModelSettings)
    assert (settings.model, settings.threads) == ("some/folder", 3)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CHROMA_LISTEN", "nowhere"),
        ("CHROMA_LISTEN", "host:99999"),
        ("CHROMA_DRAIN_S", "-1"),
        ("CHROMA_LOG_LEVEL", "LOUD"),
    ],
)
def test_a_bad_value_stops_the_start_and_names_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    complaint = refusal(ServiceSettings, capsys)
    assert variable in complaint
    assert value in complaint


def test_a_missing_model_stops_the_start(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("CHROMA_MODEL", raising=False)
    assert "CHROMA_MODEL" in refusal(ModelSettings, capsys)


@pytest.mark.parametrize("value", ['{"key-1": 7', '{"secret-key": 7}'])
def test_bad_api_keys_stop_the_start_and_are_not_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    monkeypatch.setenv("CHROMA_API_KEYS", value)
    complaint = refusal(KeyedSettings, capsys)
    assert "bad setting CHROMA_API_KEYS" in complaint
    assert "key-1" not in complaint
    assert "secret-key" not in complaint


def test_an_empty_variable_counts_as_not_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHROMA_DRAIN_S", "")
    monkeypatch.setenv("CHROMA_LISTEN", "")
    assert read_settings(ServiceSettings) == ServiceSettings(listen="127.0.0.1:0", drain_s=120.0)
    monkeypatch.setenv("CHROMA_MODEL", "")
    assert "CHROMA_MODEL" in refusal(ModelSettings, capsys)


def test_the_variable_of_one_process_beats_the_shared_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHROMA_MODEL", "folder")
    monkeypatch.setenv("CHROMA_THREADS", "2")
    monkeypatch.setenv("CHROMA_CODEC_THREADS", "1")
    monkeypatch.setenv("CHROMA_REASONER_THREADS", "7")
    assert read_settings(CodecLikeSettings).threads == 1
    assert read_settings(ModelSettings).threads == 2
    monkeypatch.setenv("CHROMA_CODEC_THREADS", "")
    assert read_settings(CodecLikeSettings).threads == 2
    monkeypatch.setenv("CHROMA_CODEC_THREADS", "many")
    assert "bad setting CHROMA_CODEC_THREADS" in refusal(CodecLikeSettings, capsys)


def test_an_unknown_variable_stops_the_start_beside_the_bad_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHROMA_MODEL", "folder")
    monkeypatch.setenv("CHROMA_SLOT", "3")
    monkeypatch.setenv("CHROMA_DRAIN_S", "-1")
    first, second = refusal(CodecLikeSettings, capsys).splitlines()
    assert first.startswith("CHROMA_SLOT is not a setting of the codec; did you mean CHROMA_SLOTS?")
    assert second.startswith("bad setting CHROMA_DRAIN_S")


@pytest.mark.e2e
@pytest.mark.parametrize(("module", "process"), [("gateway", "gateway"), ("services.codec", "codec")])
def test_the_last_line_of_a_process_with_an_unknown_variable_names_the_nearest_one(module: str, process: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CHROMA_")}
    environment |= {
        "CHROMA_MODEL": "folder",
        "CHROMA_REASONER": "a:1",
        "CHROMA_SPEECH_GEN": "b:1",
        "CHROMA_CODEC": "c:1",
        "CHROMA_REDIS_URL": "redis://localhost:1/0",
        "CHROMA_SLOT": "3",
    }
    ended = subprocess.run(
        [sys.executable, "-m", module], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2
    last = ended.stderr.splitlines()[-1]
    assert last.startswith(f"CHROMA_SLOT is not a setting of the {process}; did you mean CHROMA_SLOTS?")


def test_an_ipv6_address_splits_at_its_port() -> None:
    assert split_address("[::1]:50051") == ("[::1]", 50051)
