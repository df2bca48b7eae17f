"""The gateway's settings, read from variables."""

from __future__ import annotations

import pytest

from gateway.settings import GatewaySettings
from services.common.settings import read_settings


def refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **variables: str) -> str:
    """What the gateway prints when it refuses to start with these variables."""
    for name, value in variables.items():
        monkeypatch.setenv(f"CHROMA_{name}", value)
    with pytest.raises(SystemExit) as ended:
        read_settings(GatewaySettings)
    assert ended.value.code == 2
    return capsys.readouterr().err
