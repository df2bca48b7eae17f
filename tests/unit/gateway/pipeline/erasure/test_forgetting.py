"""What replicas are told to forget, and what becomes of a replica that does not acknowledge."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chroma.v1.audio_pb2 import CodeFrames
from chroma.v1.reasoner_pb2 import TokenIds
from chroma.v1.speech_gen_pb2 import VoicePrompt
from gateway.metrics import ERASURES_PENDING
from gateway.pipeline.erasure import forgetting as module
from gateway.pipeline.erasure.forgetting import Forgetting
from gateway.pipeline.requests import cache_scope
from gateway.store.pending_erasures import PendingErasures
from gateway.store.redis import Store
from gateway.tasks import cancel
from services.common.errors import Unavailable
from services.common.wire.voice_fingerprint import voice_fingerprint
from tests.support.fake_calls import FakeUpstream, FakeUpstreamPool

PROMPT = VoicePrompt(frames=CodeFrames(codes=range(8)), transcript=TokenIds(ids=[7]))


class StubbornUpstream(FakeUpstream):
    """An upstream whose replica acknowledges nothing while `away` is set."""

    away = True

    async def call_at(self, address: str, attempt: Any) -> None:
        if self.away:
            raise Unavailable("draining")
        await attempt(self)


async def test_a_voice_is_forgotten_under_each_checkpoint_that_may_know_it(store: Store) -> None:
    upstreams: Any = FakeUpstreamPool()
    forgetting = Forgetting(upstreams, store)
    pending = await forgetting.plan_voice(PROMPT, ("one", "stored"))
    assert await forgetting.carry_out(pending) == 0
    names = {request.voice_fingerprint for request in upstreams.speech_gen.forgotten}
    assert names == {voice_fingerprint(range(8), [7], checkpoint) for checkpoint in ("one", "stored")}
    assert await PendingErasures(store).all() == []
    assert upstreams.reasoner.forgotten == []


async def test_a_session_and_a_tenant_are_forgotten_by_the_reasoner(store: Store) -> None:
    upstreams: Any = FakeUpstreamPool()
    forgetting = Forgetting(upstreams, store)
    await forgetting.carry_out(await forgetting.plan_session("session-1"))
    await forgetting.carry_out(await forgetting.plan_tenant("acme"))
    session, scope = upstreams.reasoner.forgotten
    assert (session.session_id, scope.cache_scope) == ("session-1", cache_scope("acme"))
    assert upstreams.speech_gen.forgotten == []


async def test_a_replica_that_does_not_acknowledge_stays_on_the_list(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    reasoner = StubbornUpstream("reasoner")
    upstreams: Any = FakeUpstreamPool(reasoner=reasoner)
    forgetting = Forgetting(upstreams, store)
    pending = await forgetting.plan_session("session-1")
    assert await forgetting.carry_out(pending) == 1
    assert await PendingErasures(store).all() == [pending]
    assert "has not forgotten a session yet" in caplog.text
    assert "session-1" not in caplog.text
    reasoner.away = False
    assert await forgetting.carry_out(pending) == 0
    assert await PendingErasures(store).all() == []


async def test_the_erasures_that_wait_for_a_replica_are_counted_until_it_acknowledges(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY_EVERY_S", 0.01)
    monkeypatch.setattr(module, "_RETRY_AFTER_S", 0.0)
    reasoner = StubbornUpstream("reasoner")
    upstreams: Any = FakeUpstreamPool(reasoner=reasoner)
    forgetting = Forgetting(upstreams, store)
    for name in ("session-1", "session-2"):
        await forgetting.plan_session(name)
    running = asyncio.create_task(forgetting.run())
    async with asyncio.timeout(60):
        for away, count in ((True, 2), (False, 0)):
            reasoner.away = away
            while ERASURES_PENDING._value.get() != count:  # noqa: ASYNC110  # a metric sets no event
                await asyncio.sleep(0.01)
    await cancel(running)
