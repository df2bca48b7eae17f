"""A hundred barge-ins in one Realtime connection, through real services on tiny weights: nothing is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from checkpoints.writer import write_checkpoint
from chroma.v1 import codec_pb2_grpc, reasoner_pb2_grpc, speech_gen_pb2_grpc
from services.codec import __main__ as codec
from services.codec.settings import CodecSettings
from services.common.rpc.server import Server
from services.common.settings import ServiceSettings
from services.reasoner import __main__ as reasoner
from services.reasoner.runner import ThinkRunner
from services.reasoner.settings import ReasonerSettings
from services.speech_gen import __main__ as speech_gen
from services.speech_gen.runner import SpeechRunner
from services.speech_gen.settings import SpeechGenSettings
from tests.integration.gateway.conftest import StartGateway
from tests.support.gateway_client import new_voice, speech
from tests.support.realtime_client import MANUAL, RATE_HZ, Talk, openai_of

BARGE_INS = 100
SLOTS = 4
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Engines:
    """The three real engines behind their servers."""

    addresses: dict[str, str]
    think: ThinkRunner
    speak: SpeechRunner
    decode: codec.CodecRunner

    def held(self) -> dict[str, int]:
        """What streams hold: slots, and KV pages that are not kept for later turns."""
        think, speak = self.think.kv, self.speak.generator.kv
        return {
            "think slots": think.slots - think.free_slots,
            "speak slots": speak.slots - speak.free_slots,
            "decode slots": SLOTS - self.decode.free_decode_slots,
            "think pages": think.pages - think.free_pages - self.think.prefixes.pages,
            "speak pages": speak.pages - speak.free_pages - self.speak.shared_prompts.pages,
        }


@pytest.fixture
async def engines(tmp_path: Path) -> AsyncIterator[Engines]:
    """Services as their processes wire them, on weights whose replies never end by themselves."""
    model = tmp_path / "tiny"
    write_checkpoint("tiny", model, endless=True)
    thinker = reasoner.load(ReasonerSettings(model=str(model), slots=SLOTS, threads=1))
    speaker = speech_gen.load(SpeechGenSettings(model=str(model), slots=SLOTS, threads=1))
    decoder = codec.load(CodecSettings(model=str(model), slots=SLOTS, encode_slots=1, threads=1))
    assert isinstance(thinker.engine.runner, ThinkRunner)
    assert isinstance(speaker.engine.runner, SpeechRunner)
    assert isinstance(decoder.engine.runner, codec.CodecRunner)
    add_thinker = reasoner_pb2_grpc.add_ReasonerServiceServicer_to_server
    add_speaker = speech_gen_pb2_grpc.add_SpeechGenServiceServicer_to_server
    add_codec = codec_pb2_grpc.add_CodecServiceServicer_to_server
    async with AsyncExitStack() as stack:
        addresses = {
            "reasoner": await stack.enter_async_context(
                serving("chroma.v1.ReasonerService", add_thinker, thinker.servicer)
            ),
            "speech_gen": await stack.enter_async_context(
                serving("chroma.v1.SpeechGenService", add_speaker, speaker.servicer)
            ),
            "codec": await stack.enter_async_context(serving("chroma.v1.CodecService", add_codec, decoder.servicer)),
        }
        running = thinker.engine, speaker.engine, decoder.engine
        for engine in running:
            engine.start()
        yield Engines(addresses, thinker.engine.runner, speaker.engine.runner, decoder.engine.runner)
    for engine in running:
        await asyncio.to_thread(engine.stop)


@asynccontextmanager
async def serving(name: str, add: Callable[[Any, Any], None], servicer: Any) -> AsyncIterator[str]:
    """A server of one service; its address."""
    server = Server(ServiceSettings(max_message_bytes=32 * 1024 * 1024))
    add(servicer, server.grpc)
    server.register(name)
    port = await server.start()
    await server.set_serving()
    yield f"127.0.0.1:{port}"
    await server.drain(0)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_hundred_barge_ins_leave_no_slot_page_or_task(start_gateway: StartGateway, engines: Engines) -> None:
    async with start_gateway(**engines.addresses, max_reply_s=20.0) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with openai_of(client) as openai, openai.realtime.connect(model="gpt-realtime") as connection:
            talk = Talk(connection)
            await talk.until("session.created")
            await talk.send("session.update", session=MANUAL)
            await talk.until("session.updated")
            await nothing_held(engines)
            tasks = len(asyncio.all_tasks())
            for _ in range(BARGE_INS):
                await barge_in(talk)
            await nothing_held(engines, tasks)


async def barge_in(talk: Talk) -> None:
    """Ask a spoken question and interrupt its reply after the first sound."""
    await talk.append(speech(0.3, rate_hz=RATE_HZ))
    await talk.send("input_audio_buffer.commit")
    await talk.until("conversation.item.done")
    await talk.send("response.create")
    sound = (await talk.until("response.output_audio.delta"))[-1]
    await talk.send("conversation.item.truncate", item_id=sound.item_id, content_index=0, audio_end_ms=40)
    ends: dict[str, Any] = {}
    while not ends.keys() >= {"conversation.item.truncated", "response.done"}:  # in either order
        event = await talk.next()
        ends[event.type] = event
    done = ends["response.done"].response
    assert (done.status, done.status_details.reason) == ("cancelled", "client_cancelled")


async def nothing_held(engines: Engines, tasks: int | None = None) -> None:
    """Wait until the engines hold nothing and at most `tasks` tasks are left: a cancellation takes a while."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while any(engines.held().values()) or (tasks and len(asyncio.all_tasks()) > tasks):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"still held: {engines.held()}, {tasks} tasks became {asyncio.all_tasks()}")
