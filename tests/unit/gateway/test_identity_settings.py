from __future__ import annotations

import pytest

from gateway.settings import GatewaySettings
from services.common.settings import read_settings
from tests.support.gateway_settings import refusal

pytestmark = pytest.mark.usefixtures("required_settings")


def test_the_gateways_own_api_keys_replace_the_shared_ones_and_stay_out_of_its_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CHROMA_API_KEYS", '{"sk-shared": "tenant"}')
    settings = read_settings(GatewaySettings)
    assert settings.tenants_by_key == {"sk-shared": "tenant"}
    assert "sk-shared" not in repr(settings)
    monkeypatch.setenv("CHROMA_GATEWAY_API_KEYS", '{"sk-own": "tenant"}')
    assert read_settings(GatewaySettings).tenants_by_key == {"sk-own": "tenant"}


@pytest.mark.parametrize(
    "value",
    [
        '["sk-live-1"]',
        '{"sk-live-1": 5}',
        '{"sk-live-1": "a"',
        "sk-live-1",
        '"sk-live-1"',
        '{"sk-live-1": ""}',
        '{"sk-live-1": "a:b"}',
        '{"sk-live-1": "a b"}',
        '{"sk-live-1": null}',
        '{"sk-live-1": {"tenant": "a"}}',
        '{"": "sk-live-1"}',
        "[" * 100_000 + '"sk-live-1"',
    ],
)
def test_bad_api_keys_stop_the_start_and_no_part_of_them_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    printed = refusal(monkeypatch, capsys, API_KEYS=value)
    assert printed.startswith("bad setting CHROMA_API_KEYS: ")
    assert printed.count("\n") == 1
    assert "live" not in printed.lower()


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"OIDC_ISSUER": "https://login.example.com"}, "OIDC_AUDIENCE together"),
        ({"OIDC_AUDIENCE": "chroma"}, "OIDC_AUDIENCE together"),
        ({"OIDC_ISSUER": "http://login.example.com", "OIDC_AUDIENCE": "chroma"}, "expected an https URL"),
        ({"OIDC_JWKS_URL": "file:///etc/keys.json"}, "expected an https URL"),
        ({"TRUSTED_PROXIES": "10.0.0.0/33"}, "TRUSTED_PROXIES"),
    ],
)
def test_a_bad_provider_or_proxy_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variables: dict[str, str], complaint: str
) -> None:
    assert complaint in refusal(monkeypatch, capsys, **variables)
