"""Forgetting: every replica drops what it computed from a voice, a session or a tenant's sessions.

The speech generators keep rows and KV pages of voices, the reasoners KV pages of sessions. A deletion is remembered in
the store before it is done, and then told to every replica. A replica that does not acknowledge is asked again every
few seconds, by any gateway, until it does or is gone: a replica that was started anew holds nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from grpc import aio

from chroma.v1.reasoner_pb2 import ForgetRequest
from chroma.v1.speech_gen_pb2 import ForgetVoiceRequest, VoicePrompt
from gateway.metrics import ERASURES_PENDING
from gateway.pipeline.calls import upstream_error
from gateway.pipeline.requests import cache_scope
from gateway.pipeline.upstreams import Upstream, UpstreamPool
from gateway.store.pending_erasures import PendingErasure, PendingErasures
from gateway.store.redis import Store
from services.common.errors import ChromaError, ResourceExhausted
from services.common.rpc.context import outgoing_metadata
from services.common.wire.voice_fingerprint import voice_fingerprint

log = logging.getLogger(__name__)

_CALL_TIMEOUT_S = 5.0
_RETRY_EVERY_S = 5.0
_RETRY_AFTER_S = 15.0
"""Age at which an erasure is tried again. By then all gateways have resolved the names of the replicas again, so an
address that is not known is that of a replica that is gone."""


class Forgetting:
    """Tells replicas what to forget."""

    def __init__(self, upstreams: UpstreamPool, store: Store) -> None:
        self._upstreams = upstreams
        self._pending = PendingErasures(store)

    async def plan_voice(self, prompt: VoicePrompt, checkpoints: Collection[str] = ()) -> PendingErasure:
        """Remember that a voice is to be forgotten, under the checkpoints of the replicas and under these.

        Raises Unavailable.
        """
        speech_gen = self._upstreams.speech_gen
        codes, ids = prompt.frames.codes, prompt.transcript.ids
        checkpoints = speech_gen.known_checkpoints() | set(checkpoints)
        names = [voice_fingerprint(codes, ids, checkpoint) for checkpoint in sorted(checkpoints)]
        return await self._remember("voice", names, speech_gen.addresses())

    async def plan_session(self, session_id: str) -> PendingErasure:
        """Remember that a session is to be forgotten. Raises Unavailable."""
        return await self._remember("session", [session_id], self._upstreams.reasoner.addresses())

    async def plan_tenant(self, tenant: str) -> PendingErasure:
        """Remember that all sessions of a tenant are to be forgotten. Raises Unavailable."""
        return await self._remember("scope", [cache_scope(tenant)], self._upstreams.reasoner.addresses())

    async def _remember(self, kind: str, names: Sequence[str], replicas: Sequence[str]) -> PendingErasure:
        """Put an erasure on the list. A full store takes no list, and its data can be erased all the same: replicas
        that do not acknowledge are then not asked again."""
        try:
            return await self._pending.add(kind, names, replicas)
        except ResourceExhausted as error:
            log.warning("an erasure is not on the list of what replicas have to forget: %s", error.message)
            return PendingErasure("", kind, tuple(names), tuple(replicas), time.time())

    async def carry_out(self, pending: PendingErasure) -> int:
        """Tell every replica that is left. Returns the number of those that did not acknowledge: they are asked again
        later."""
        upstream = self._upstreams.speech_gen if pending.kind == "voice" else self._upstreams.reasoner
        told = await asyncio.gather(*(self._tell(upstream, it, pending) for it in pending.replicas))
        left = tuple(address for address, done in zip(pending.replicas, told, strict=True) if not done)
        if left != pending.replicas or not left:
            try:
                await self._pending.update(replace(pending, replicas=left))
            except ChromaError as error:
                log.info("an erasure stays on the list: %s", error.message)
        return len(left)

    async def run(self) -> None:
        """Try the erasures that replicas have not acknowledged again, until cancelled."""
        while True:
            await asyncio.sleep(_RETRY_EVERY_S)
            try:
                waiting = await self._pending.all()
                ERASURES_PENDING.set(len(waiting))
                for pending in waiting:
                    if pending.asked < time.time() - _RETRY_AFTER_S:
                        await self.carry_out(pending)
            except ChromaError as error:
                log.info("erasures are not tried again now: %s", error.message)

    async def _tell(self, upstream: Upstream, address: str, pending: PendingErasure) -> bool:
        """Whether the replica at this address has forgotten, or is gone."""

        async def forget(stub: Any) -> None:
            for name in pending.names:
                await _forget(upstream.name, stub, pending.kind, name)

        try:
            await upstream.call_at(address, forget)
        except ChromaError as error:
            log.warning("%s at %s has not forgotten a %s yet: %s", upstream.name, address, pending.kind, error.message)
            return False
        return True


async def _forget(upstream: str, stub: Any, kind: str, name: str) -> None:
    options = {"timeout": _CALL_TIMEOUT_S, "metadata": outgoing_metadata()}
    try:
        match kind:
            case "voice":
                await stub.ForgetVoice(ForgetVoiceRequest(voice_fingerprint=name), **options)
            case "session":
                await stub.Forget(ForgetRequest(session_id=name), **options)
            case _:
                await stub.Forget(ForgetRequest(cache_scope=name), **options)
    except aio.AioRpcError as error:
        raise upstream_error(upstream, error) from None
