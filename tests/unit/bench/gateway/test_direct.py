"""The callers of the gateway's benchmark that call the stages themselves."""

from __future__ import annotations

import time

import grpc.aio
import pytest

from bench.gateway import callers, direct, stages
from services.common.wire.audio import FRAME_S
from tests.support.fake_services import FakeService


async def test_a_direct_caller_hears_whole_turns_and_only_what_the_stages_did_not_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (callers, direct, stages):
        monkeypatch.setattr(module, "REPLY_FRAMES", 6)
    monkeypatch.setattr(direct, "PIECES", 2)
    services = {
        "reasoner": (FakeService("reasoner"), stages.Reasoner),
        "speech_gen": (FakeService("speech_gen"), stages.SpeechGen),
        "codec": (FakeService("codec"), stages.Codec),
    }
    for service, servicer in services.values():
        await service.start(servicer)
    channels = [grpc.aio.insecure_channel(service.address) for service, _ in services.values()]
    heard, begun_s = callers.Heard(), time.monotonic()
    await direct.call(direct.Stubs(*channels), begun_s, begun_s, heard)
    took_s = time.monotonic() - begun_s
    for channel in channels:
        await channel.close()
    for service, _ in services.values():
        await service.kill()
    assert len(heard.added_s) == 1
    spoken_s = 2 * FRAME_S + stages.FIRST_THOUGHT_S + stages.FIRST_FRAME_S
    assert 0 < heard.added_s[0] < took_s - spoken_s, "the stages' own times are not in it"
    assert took_s >= spoken_s + 6 * FRAME_S, "the caller listens to the end"
