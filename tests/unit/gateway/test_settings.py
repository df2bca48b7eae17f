from __future__ import annotations

import base64

import pytest

from gateway.settings import GatewaySettings, parse_store_keys
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


def test_the_gateways_own_api_keys_replace_the_shared_ones_and_stay_out_of_its_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CHROMA_API_KEYS", '{"sk-shared": "tenant"}')
    settings = read_settings(GatewaySettings)
    assert settings.tenants_by_key == {"sk-shared": "tenant"}
    assert "sk-shared" not in repr(settings)
    monkeypatch.setenv("CHROMA_GATEWAY_API_KEYS", '{"sk-own": "tenant"}')
    assert read_settings(GatewaySettings).tenants_by_key == {"sk-own": "tenant"}


def refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **variables: str) -> str:
    """What the gateway prints when it refuses to start with these variables."""
    for name, value in variables.items():
        monkeypatch.setenv(f"CHROMA_{name}", value)
    with pytest.raises(SystemExit) as ended:
        read_settings(GatewaySettings)
    assert ended.value.code == 2
    return capsys.readouterr().err


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


def test_the_password_of_the_store_stays_out_of_the_settings_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMA_REDIS_URL", "redis://:store-password@d:1")
    assert "store-password" not in repr(read_settings(GatewaySettings))


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


def test_store_keys_are_read_in_order() -> None:
    one, two = base64.b64encode(bytes(32)).decode(), base64.b64encode(bytes(range(32))).decode()
    assert list(parse_store_keys(f"k2:{two}, k1:{one}").items()) == [("k2", bytes(range(32))), ("k1", bytes(32))]
    assert parse_store_keys("") == {}


@pytest.mark.parametrize(
    "text",
    [
        "c2VjcmV0",
        "k1:c2VjcmV0",
        "k1:?",
        ":" + "A" * 43 + "=",
        "k 1:" + "A" * 43 + "=",
        ",".join(["k:" + "A" * 43 + "="] * 2),
    ],
)
def test_a_bad_store_key_is_refused_and_not_shown(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=r"key [12]: ") as refused:
        parse_store_keys(text)
    assert "c2VjcmV0" not in str(refused.value)
    monkeypatch.setenv("CHROMA_STORE_KEYS", text)
    with pytest.raises(SystemExit):
        read_settings(GatewaySettings)
    told = capsys.readouterr().err
    assert "CHROMA_STORE_KEYS" in told
    assert text not in told


def test_connections_outlive_those_of_a_load_balancer_and_pings_come_before_its_limit() -> None:
    settings = GatewaySettings(reasoner="a:1", speech_gen="b:1", codec="c:1", redis_url="redis://d:1")
    assert settings.http_idle_s > 60 > settings.websocket_ping_s


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
