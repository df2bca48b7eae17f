from __future__ import annotations

from pathlib import Path

import pytest

from chroma_voice.bench.targets.grpc_target import GrpcTarget
from chroma_voice.bench.targets.realtime_target import RealtimeTarget
from chroma_voice.cli.gateway_address import GatewayOptions
from chroma_voice.cli.load.target_options import choose_target, default_metrics, probe, voices_to_use
from chroma_voice.errors import InvalidArgument, NotFound, Unavailable
from tests.support.scripted_target import ScriptedTarget
from tests.unit.clients.python.chroma_voice.cli.load.test_options import options


def test_a_gateway_is_called_over_grpc() -> None:
    target = choose_target(GatewayOptions(gateway="127.0.0.1:5", api_key="key"), options(patience_s=7.0, store=False))
    assert target == GrpcTarget("127.0.0.1:5", "key", store=False, silence_s=7.0)


def test_a_url_is_called_over_realtime() -> None:
    target = choose_target(GatewayOptions(api_key="key"), options(url="https://host/v1", model="m", beta=True))
    assert target == RealtimeTarget("wss://host/v1/realtime?model=m", "key", beta=True)


def test_a_key_does_not_go_to_another_machine_in_plain_text() -> None:
    for gateway, given in (
        (GatewayOptions(gateway="host:1", api_key="key"), options()),
        (GatewayOptions(api_key="key"), options(url="ws://host")),
    ):
        with pytest.raises(InvalidArgument, match="plain text"):
            choose_target(gateway, given)
    allowed = GatewayOptions(api_key="key", plaintext_key=True)
    assert choose_target(allowed, options(url="ws://host")).name == "ws://host/v1/realtime (Realtime)"


def test_without_a_launcher_there_is_no_default(tmp_path: Path) -> None:
    for call in (choose_target, default_metrics):
        with pytest.raises(Unavailable, match="no chroma-voice runs"):
            call(GatewayOptions(state=tmp_path), options())
    assert default_metrics(GatewayOptions(state=tmp_path), options(url="ws://host")) == []
    assert default_metrics(GatewayOptions(gateway="host:1"), options()) == []


def test_voices_are_those_that_are_wanted_or_found() -> None:
    assert probe(ScriptedTarget()) == ["amber"]
    assert voices_to_use(["a"], ["a", "b"]) == ["a"]
    assert voices_to_use([], ["a", "b"]) == ["a", "b"]
    assert voices_to_use([], []) == [""]
    assert voices_to_use(["alloy"], []) == ["alloy"]
    with pytest.raises(NotFound, match="no voice 'x'; there are a, b"):
        voices_to_use(["x"], ["a", "b"])
