from __future__ import annotations

import pytest

from gateway.settings import GatewaySettings
from services.common.settings import read_settings


@pytest.fixture(autouse=True)
def required(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings that have no default."""
    for name, value in {"REASONER": "a:1", "SPEECH_GEN": "b:1", "CODEC": "c:1", "REDIS_URL": "redis://d:1"}.items():
        monkeypatch.setenv(f"CHROMA_{name}", value)


def test_addresses_come_from_the_environment() -> None:
    settings = read_settings(GatewaySettings)
    assert (settings.reasoner, settings.speech_gen, settings.codec) == ("a:1", "b:1", "c:1")


def test_a_missing_address_stops_the_start(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("CHROMA_CODEC")
    with pytest.raises(SystemExit):
        read_settings(GatewaySettings)
    assert "bad setting CHROMA_CODEC" in capsys.readouterr().err


def test_settings_of_the_codec_alone_are_not_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMA_CODEC_LISTEN", "127.0.0.1:9")
    settings = read_settings(GatewaySettings)
    assert (settings.codec, settings.listen) == ("c:1", "127.0.0.1:0")


def test_api_keys_are_a_json_object_and_the_gateways_own_replace_the_shared_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CHROMA_API_KEYS", '{"key": "tenant"}')
    assert read_settings(GatewaySettings).api_keys == {"key": "tenant"}
    monkeypatch.setenv("CHROMA_GATEWAY_API_KEYS", '{"other": "tenant"}')
    assert read_settings(GatewaySettings).api_keys == {"other": "tenant"}


def test_connections_outlive_the_longest_conversation_by_default() -> None:
    settings = read_settings(GatewaySettings)
    assert settings.max_connection_age_grace_s > settings.conversation_limit_s


def test_by_default_the_longest_input_and_the_longest_paced_reply_fit_into_a_turn() -> None:
    settings = read_settings(GatewaySettings)
    assert settings.turn_limit_s >= settings.max_input_s + settings.max_reply_s


@pytest.mark.parametrize("change", ["TURN_LIMIT_S=400", "MAX_INPUT_S=200", "MAX_REPLY_S=400"])
def test_a_turn_limit_too_short_for_the_longest_reply_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    monkeypatch.setenv(*f"CHROMA_{change}".split("="))
    with pytest.raises(SystemExit):
        read_settings(GatewaySettings)
    assert "expected CHROMA_TURN_LIMIT_S of at least CHROMA_MAX_INPUT_S" in capsys.readouterr().err
