import pytest

from services.common.settings import ModelSettings, ServiceSettings, read_settings, split_address


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMA_MODEL", "some/folder")
    monkeypatch.setenv("CHROMA_SLOTS", "3")
    settings = read_settings(ModelSettings)
    assert (settings.model, settings.slots) == ("some/folder", 3)


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
    with pytest.raises(SystemExit):
        read_settings(ServiceSettings)
    complaint = capsys.readouterr().err
    assert variable in complaint
    assert value in complaint


def test_a_missing_model_stops_the_start(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("CHROMA_MODEL", raising=False)
    with pytest.raises(SystemExit):
        read_settings(ModelSettings)
    assert "CHROMA_MODEL" in capsys.readouterr().err


def test_an_ipv6_address_splits_at_its_port() -> None:
    assert split_address("[::1]:50051") == ("[::1]", 50051)
