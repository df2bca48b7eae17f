from __future__ import annotations

import base64

import pytest

from gateway.settings import GatewaySettings
from gateway.store_settings import parse_store_keys
from services.common.settings import read_settings

pytestmark = pytest.mark.usefixtures("required_settings")


def test_the_password_of_the_store_stays_out_of_the_settings_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMA_REDIS_URL", "redis://:store-password@d:1")
    assert "store-password" not in repr(read_settings(GatewaySettings))


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
