from __future__ import annotations

import os
import subprocess
import sys
from typing import ClassVar

import pytest
from pydantic import Field, SecretStr, ValidationError, field_validator

from services.common.settings import ModelSettings, ServiceSettings, is_loopback, read_settings, split_address
from tests.support.paths import ROOT


class KeyedSettings(ServiceSettings):
    """Settings with secrets: as a value, and inside one."""

    service: ClassVar[str] = "gateway"
    api_keys: dict[str, str] = Field(default_factory=dict)
    redis_url: SecretStr = SecretStr("")

    @field_validator("redis_url")
    @classmethod
    def _never_good(cls, value: SecretStr) -> SecretStr:
        raise ValueError("never good")


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


def test_a_bad_secret_stops_the_start_and_is_not_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHROMA_REDIS_URL", "redis://:secret-key@store")
    assert refusal(KeyedSettings, capsys) == "bad setting CHROMA_REDIS_URL: Value error, never good\n"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "[::1]", "::1"])
def test_a_loopback_host_is_this_machine_alone(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "0.0.0.0", "[::]", "10.0.0.1", "localhost.example.com", "128.0.0.1", "example.com"]
)
def test_every_other_host_is_not_loopback(host: str) -> None:
    assert not is_loopback(host)


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


def test_only_the_grpc_server_takes_a_unix_socket() -> None:
    assert ServiceSettings(listen="unix:/run/gateway.sock").listen == "unix:/run/gateway.sock"
    assert split_address("unix:/run/gateway.sock") == ("localhost", 0)
    for field in ("metrics_listen", "health_listen"):
        with pytest.raises(ValidationError, match="only the gRPC server"):
            ServiceSettings.model_validate({field: "unix:/run/gateway.sock"})
    with pytest.raises(ValidationError, match="expected host:port"):
        ServiceSettings(listen="unix:relative")
