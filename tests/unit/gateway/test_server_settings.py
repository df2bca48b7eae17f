from __future__ import annotations

import pytest

from gateway.settings import GatewaySettings
from services.common.settings import read_settings

pytestmark = pytest.mark.usefixtures("required_settings")


def test_hosts_and_origins_are_lists_in_the_form_that_browsers_send(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMA_HTTP_HOSTS", "Voice.example.com, *.example.org")
    monkeypatch.setenv("CHROMA_HTTP_ORIGINS", "https://App.example.com:443,http://localhost:3000, http://a.example:80")
    settings = read_settings(GatewaySettings)
    assert settings.http_host_names == ["voice.example.com", "*.example.org"]
    assert settings.http_allowed_origins == ["https://app.example.com", "http://localhost:3000", "http://a.example"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CHROMA_HTTP_HOSTS", "*"),
        ("CHROMA_HTTP_HOSTS", "https://voice.example.com"),
        ("CHROMA_HTTP_HOSTS", "voice.example.com:8080"),
        ("CHROMA_HTTP_HOSTS", "voice.*.com"),
        ("CHROMA_HTTP_ORIGINS", "*"),
        ("CHROMA_HTTP_ORIGINS", "null"),
        ("CHROMA_HTTP_ORIGINS", "app.example.com"),
        ("CHROMA_HTTP_ORIGINS", "https://app.example.com/page"),
    ],
)
def test_a_host_or_origin_of_another_form_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit):
        read_settings(GatewaySettings)
    assert f"bad setting {variable}" in capsys.readouterr().err


def test_the_pages_token_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMA_PAGE_TOKEN", "secret-token")
    assert "secret-token" not in repr(read_settings(GatewaySettings))


def test_connections_outlive_those_of_a_load_balancer_and_pings_come_before_its_limit() -> None:
    settings = GatewaySettings(reasoner="a:1", speech_gen="b:1", codec="c:1", redis_url="redis://d:1")
    assert settings.http_idle_s > 60 > settings.websocket_ping_s
