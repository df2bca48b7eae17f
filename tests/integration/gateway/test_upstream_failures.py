"""Model services that refuse, die, hang or vanish: the client gets a clear status, and the next turn works."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc import aio

from chroma.v1 import dialogue_pb2 as pb
from gateway.settings import GatewaySettings
from services.common.errors import ChromaError, InvalidArgument, OutOfRange, ResourceExhausted, Unavailable
from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.gateway_client import Client, new_voice, s16, speech
from tests.support.paths import ROOT

SERVICES = ["reasoner", "speech_gen", "codec"]


@pytest.mark.parametrize("name", SERVICES)
async def test_a_full_service_fails_the_turn_with_the_time_to_wait(client: Client, fakes: Fakes, name: str) -> None:
    script = getattr(fakes, name).script
    script.refusal = ResourceExhausted("no free slot", retry_after_s=2.5)
    async with client.converse() as talk:
        failed = await talk.ask("question")
        script.refusal = None
        assert (await talk.ask("again")).outcome == pb.TURN_OUTCOME_COMPLETED
    assert failed.outcome == pb.TURN_OUTCOME_FAILED
    assert failed.error.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert failed.error.message == f"{name}: no free slot"
    assert failed.error.retry_after_s == 2.5
    assert not failed.recorded


@pytest.mark.parametrize("error", [InvalidArgument("refused"), ResourceExhausted("full"), Unavailable("draining")])
async def test_the_commit_of_a_turn_that_failed_before_it_belongs_to_that_turn(
    client: Client, fakes: Fakes, error: ChromaError
) -> None:
    script = fakes.reasoner.script
    script.refusal = error
    async with client.converse() as talk:
        await talk.send(text="question")
        while not script.opened:
            script.news.clear()
            await script.news.wait()
        await fakes.all_freed()
        await talk.send(text="more of it")
        await talk.send(commit=pb.CommitTurn())
        failed = await talk.done()
        script.refusal = None
        assert (await talk.ask("again")).outcome == pb.TURN_OUTCOME_COMPLETED
    assert grpc.StatusCode[error.status].value[0] == failed.error.code
    assert failed.error.message.startswith("reasoner")
    assert script.heard == ["again"]


@pytest.mark.parametrize("name", SERVICES)
async def test_a_service_that_dies_mid_turn_is_named_and_the_next_turn_works(
    client: Client, fakes: Fakes, name: str
) -> None:
    service = getattr(fakes, name)
    service.script.hold_at = 3
    async with client.converse() as talk:
        await talk.send(audio=s16(speech(0.3)))
        await talk.send(commit=pb.CommitTurn())
        await service.script.held.wait()
        await service.kill()
        failed = await talk.done()
        assert failed.outcome == pb.TURN_OUTCOME_FAILED
        assert failed.error.code == grpc.StatusCode.UNAVAILABLE.value[0]
        assert failed.error.message.startswith(name)
        await fakes.all_freed()
        gone = await talk.ask("while it is away")
        assert gone.error.code == grpc.StatusCode.UNAVAILABLE.value[0]
        service.script.hold_at = None
        await service.start()
        while (done := await talk.ask("once it is back")).outcome == pb.TURN_OUTCOME_FAILED:
            assert done.error.code == grpc.StatusCode.UNAVAILABLE.value[0]
        assert done.outcome == pb.TURN_OUTCOME_COMPLETED


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_service_process_killed_or_frozen_mid_turn_is_noticed(
    start_gateway: StartGateway, fakes: Fakes, name: str, end: signal.Signals
) -> None:
    async with _service_process(name) as (process, address), start_gateway(**{name: address}) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with client.converse() as talk:
            await talk.send(text="question")
            await talk.send(commit=pb.CommitTurn())
            await talk.until("audio")  # well within the turn: the service waits after some answers
            process.send_signal(end)
            async with asyncio.timeout(60):
                failed = await talk.done()
    assert failed.error.code == grpc.StatusCode.UNAVAILABLE.value[0]
    assert failed.error.message == f"{name} went away"


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize("hold_at", [0, 3])
async def test_a_service_that_hangs_fails_the_turn_after_the_patience_and_is_the_one_that_is_named(
    start_gateway: StartGateway, fakes: Fakes, name: str, hold_at: int
) -> None:
    async with start_gateway(stage_patience_s=0.5) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        getattr(fakes, name).script.hold_at = hold_at
        async with client.converse() as talk:
            failed = await talk.ask("question")
            assert failed.error.code == grpc.StatusCode.UNAVAILABLE.value[0]
            assert failed.error.message == f"{name} hangs: it sent nothing for 0.5 s"
            await fakes.all_freed()
            getattr(fakes, name).script.hold_at = None
            assert (await talk.ask("again")).outcome == pb.TURN_OUTCOME_COMPLETED


async def test_a_client_that_gives_the_text_of_a_reply_slowly_is_no_hang(
    start_gateway: StartGateway, fakes: Fakes
) -> None:
    async with start_gateway(stage_patience_s=0.3) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with client.converse() as talk:
            await talk.send(say=pb.Say(text="one ", verbatim=True))
            await talk.until("audio")
            await asyncio.sleep(1)
            await talk.send(say=pb.Say(text="two ", end=True))
            assert (await talk.done()).outcome == pb.TURN_OUTCOME_COMPLETED


@pytest.mark.parametrize("name", SERVICES)
async def test_a_turn_that_breaks_after_its_first_output_is_internal_and_says_only_which_service_failed(
    client: Client, fakes: Fakes, name: str
) -> None:
    getattr(fakes, name).script.breaks = [3]
    async with client.converse() as talk:
        failed = await talk.ask("question")
        assert (failed.error.code, failed.error.message) == (grpc.StatusCode.INTERNAL.value[0], f"{name} failed")
        await fakes.all_freed()
        assert (await talk.ask("again")).outcome == pb.TURN_OUTCOME_COMPLETED


async def test_the_only_replica_of_a_service_is_called_however_often_it_fails(client: Client, fakes: Fakes) -> None:
    fakes.codec.script.breaks = [0] * 6
    async with client.converse() as talk:
        for _ in range(6):
            assert (await talk.ask("question")).error.code == grpc.StatusCode.INTERNAL.value[0]
        assert (await talk.ask("question")).outcome == pb.TURN_OUTCOME_COMPLETED


async def test_a_turn_beyond_its_time_limit_fails_with_deadline_exceeded(
    start_gateway: StartGateway, fakes: Fakes
) -> None:
    fakes.codec.script.hold_at = 1
    async with start_gateway(turn_limit_s=0.5, max_input_s=0.25, max_reply_s=0.25) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with client.converse() as talk:
            failed = await talk.ask("question")
    assert failed.error.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
    assert "CHROMA_TURN_LIMIT_S is 0.5 s" in failed.error.message
    await fakes.all_freed()


async def test_history_that_the_reasoner_has_no_room_for_is_halved_and_the_dropped_turns_are_counted(
    client: Client, fakes: Fakes
) -> None:
    async with client.converse() as talk:
        for turn in range(4):
            await talk.ask(f"turn {turn}")
        fakes.reasoner.script.failures = [OutOfRange("too long")]
        await talk.send(audio=s16(speech(0.3)))
        await talk.send(commit=pb.CommitTurn())
        done = await talk.done()
    assert done.outcome == pb.TURN_OUTCOME_COMPLETED
    assert done.dropped_turns == 2
    assert fakes.reasoner.script.opened[-1].history[0].parts[0].text == "turn 2"
    stored = await client.dialogue.GetSession(pb.GetSessionRequest(session_id=talk.session.session_id))
    assert stored.session.dropped_turns == 2
    assert stored.session.entries[0].text == "turn 2"


async def test_a_turn_too_long_without_any_history_fails_with_out_of_range(client: Client, fakes: Fakes) -> None:
    fakes.reasoner.script.failures = [OutOfRange("too long")]
    async with client.converse() as talk:
        failed = await talk.ask("question")
    assert failed.error.code == grpc.StatusCode.OUT_OF_RANGE.value[0]


@pytest.mark.parametrize("error", [ResourceExhausted("full"), ChromaError("bug")])
async def test_an_enrolment_fails_with_the_error_of_the_service(
    client: Client, fakes: Fakes, error: ChromaError
) -> None:
    fakes.speech_gen.script.failures = [error]
    with pytest.raises(aio.AioRpcError) as raised:
        await client.voices.CreateVoice(new_voice("eve"))
    assert raised.value.code().name == error.status
    assert "speech_gen" in (raised.value.details() or "")
    await client.voices.CreateVoice(new_voice("eve"))


def test_a_bad_setting_names_itself() -> None:
    with pytest.raises(ValueError, match="redis_url"):
        GatewaySettings(reasoner="a:1", speech_gen="b:1", codec="c:1")  # pyright: ignore[reportCallIssue]


@asynccontextmanager
async def _service_process(name: str) -> AsyncIterator[tuple[Process, str]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.fake_services", name, stdout=PIPE, cwd=ROOT
    )
    try:
        assert process.stdout is not None
        yield process, (await process.stdout.readline()).decode().strip()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
