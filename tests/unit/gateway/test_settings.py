from __future__ import annotations

import pytest

from gateway.settings import GatewaySettings
from services.common.settings import read_settings
from tests.support.gateway_settings import refusal

pytestmark = pytest.mark.usefixtures("required_settings")


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


@pytest.mark.parametrize("name", ["LISTEN", "HTTP_LISTEN"])
@pytest.mark.parametrize("host", ["0.0.0.0", "", "[::]", "10.0.0.1", "gateway.example.com", "[fd00::1]"])
def test_without_keys_the_gateway_listens_on_loopback_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, host: str
) -> None:
    printed = refusal(monkeypatch, capsys, **{name: f"{host}:50051"})
    assert printed.startswith(f"bad settings: CHROMA_{name} is {host}:50051, which other machines can reach")
    assert "CHROMA_API_KEYS_FILE" in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "[::1]", "localhost"])
def test_loopback_needs_no_keys(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("CHROMA_LISTEN", f"{host}:50051")
    monkeypatch.setenv("CHROMA_HTTP_LISTEN", f"{host}:8080")
    assert not read_settings(GatewaySettings).has_identity


@pytest.mark.parametrize(
    "variables",
    [
        {"API_KEYS": '{"sk-1": "a"}'},
        {"API_KEYS_FILE": "/run/secrets/keys.json"},
        {"OIDC_ISSUER": "https://login.example.com", "OIDC_AUDIENCE": "chroma"},
        {"TRUSTED_NETWORK": "true"},
    ],
)
def test_with_keys_a_provider_or_a_trusted_network_it_listens_everywhere(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in {"LISTEN": "0.0.0.0:50051", "HTTP_LISTEN": "0.0.0.0:8080", **variables}.items():
        monkeypatch.setenv(f"CHROMA_{name}", value)
    assert read_settings(GatewaySettings).http_listen == "0.0.0.0:8080"


def test_an_empty_object_of_keys_is_no_key(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert "callers need no key" in refusal(monkeypatch, capsys, LISTEN="0.0.0.0:50051", API_KEYS="{}")


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


def test_several_processes_cannot_share_a_unix_socket(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHROMA_GATEWAY_PROCESSES", "4")
    assert read_settings(GatewaySettings).gateway_processes == 4
    monkeypatch.setenv("CHROMA_LISTEN", "unix:/run/gateway.sock")
    with pytest.raises(SystemExit):
        read_settings(GatewaySettings)
    error = capsys.readouterr().err
    assert "bad setting CHROMA_GATEWAY_PROCESSES: Value error, expected CHROMA_LISTEN of host:port beside it" in error
