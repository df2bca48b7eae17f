"""The statuses of the public rpcs are those that dialogue.proto lists: no fewer and no others."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode, aio

from chroma.v1 import dialogue_pb2 as pb
from chroma.v1.consent_pb2 import RevokeConsentRequest
from chroma.v1.consent_pb2_grpc import ConsentServiceStub
from services.common.errors import DeadlineExceeded, OutOfRange, ResourceExhausted
from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.api_keys import key_entry, write_keys
from tests.support.gateway_client import Client, Talk, audio_file, new_voice, speech
from tests.support.paths import ROOT

PROTO = ROOT / "protos" / "chroma" / "v1" / "dialogue.proto"
TENANT = (("chroma-tenant", "not a tenant"),)


def documented() -> tuple[dict[str, set[str]], set[str], set[str]]:
    """The statuses that the proto's comments list: of each rpc, of every rpc, and of a turn in `turn_done`."""
    comments = r"((?: *//.*\n)+) *"
    text = PROTO.read_text()
    services = [set(_listed(comment)) for comment, _ in re.findall(comments + r"service (\w+) ", text)]
    assert services[0] == services[1], "the two services list the same statuses for every rpc"
    rpcs, turn = {}, set[str]()
    for comment, rpc in re.findall(comments + r"rpc (\w+)\(", text):
        of_turn, _, of_call = comment.rpartition("The conversation can end with a status:")
        rpcs[rpc] = set(_listed(of_call))
        turn |= set(_listed(of_turn))
    return rpcs, services[0], turn


def _listed(comment: str) -> list[str]:
    """The statuses that start the items of a comment's lists."""
    return re.findall(r"// - ([A-Z_]+)[:,]", comment)


RPCS, EVERY_RPC, TURN = documented()

Requests = Callable[[Client, Any], Awaitable[Any]]


async def _converse(client: Client, metadata: Any, **opened: Any) -> None:
    talk = Talk(client.dialogue.Converse(metadata=metadata))
    await talk.send(open=pb.ConverseOpen(**{"new_session": pb.SessionConfig(voice_id="ada"), **opened}))
    await talk.done()


def _get_voice(voice_id: str) -> Requests:
    return lambda client, metadata: client.voices.GetVoice(pb.GetVoiceRequest(voice_id=voice_id), metadata=metadata)


def _update(**fields: Any) -> Requests:
    request = pb.UpdateSessionRequest(**fields)
    return lambda client, metadata: client.dialogue.UpdateSession(request, metadata=metadata)


def _create(**config: Any) -> Requests:
    request = pb.CreateSessionRequest(config=pb.SessionConfig(**config))
    return lambda client, metadata: client.dialogue.CreateSession(request, metadata=metadata)


def _list(**fields: Any) -> Requests:
    return lambda client, metadata: client.voices.ListVoices(pb.ListVoicesRequest(**fields), metadata=metadata)


def _create_voice(voice_id: str = "grace", **fields: Any) -> Requests:
    return lambda client, metadata: client.voices.CreateVoice(new_voice(voice_id, **fields), metadata=metadata)


async def _enrol_under_a_revoked_consent(client: Client, metadata: Any) -> None:
    consents = ConsentServiceStub(client.channel)
    request = new_voice("cy", audio_file=audio_file(speech(2, rate_hz=24_000, seed=2)))
    voice = (await client.voices.CreateVoice(request, metadata=metadata)).voice
    await consents.RevokeConsent(RevokeConsentRequest(consent_id=voice.consent_id), metadata=metadata)
    await client.voices.CreateVoice(request, metadata=metadata)


async def _retry_too_late(client: Client, metadata: Any) -> None:
    keyed = (*metadata, ("chroma-idempotency-key", "one"))
    await client.voices.CreateVoice(new_voice("dan"), metadata=keyed)
    await client.voices.DeleteVoice(pb.DeleteVoiceRequest(voice_id="dan"), metadata=metadata)
    await client.voices.CreateVoice(new_voice("dan"), metadata=keyed)


def _delete_voice(voice_id: str) -> Requests:
    request = pb.DeleteVoiceRequest(voice_id=voice_id)
    return lambda client, metadata: client.voices.DeleteVoice(request, metadata=metadata)


REQUESTS: dict[str, Requests] = {
    "CreateSession": _create(voice_id="ada"),
    "GetSession": lambda client, metadata: client.dialogue.GetSession(
        pb.GetSessionRequest(session_id="x"), metadata=metadata
    ),
    "UpdateSession": _update(session_id="x"),
    "DeleteSession": lambda client, metadata: client.dialogue.DeleteSession(
        pb.DeleteSessionRequest(session_id="x"), metadata=metadata
    ),
    "Converse": _converse,
    "CreateVoice": _create_voice(),
    "GetVoice": _get_voice("x"),
    "ListVoices": _list(),
    "DeleteVoice": _delete_voice("x"),
}
"""A request of each rpc. The session or voice `x` that some of them name does not exist."""


async def _status(request: Awaitable[Any]) -> str:
    with pytest.raises(aio.AioRpcError) as raised:
        await request
    return raised.value.code().name


def test_the_table_has_every_rpc() -> None:
    assert REQUESTS.keys() == RPCS.keys()


async def test_every_rpc_can_end_with_the_statuses_that_each_service_lists(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    ended: dict[str, set[str]] = {rpc: {"INTERNAL"} for rpc in RPCS}  # a bug, which no request can ask for
    async with start_gateway(api_keys='{"sk-1": "a"}') as locked:
        for rpc, request in REQUESTS.items():
            ended[rpc].add(await _status(request(locked, ())))
    keys = write_keys(tmp_path / "keys.json", key_entry("sk-admin", scopes=["admin"]))
    async with start_gateway(api_keys_file=keys) as locked:
        for rpc, request in REQUESTS.items():
            ended[rpc].add(await _status(request(locked, (("authorization", "Bearer sk-admin"),))))
    async with start_gateway() as client:
        for rpc, request in REQUESTS.items():
            ended[rpc].add(await _status(request(client, TENANT)))
    async with start_gateway(wait=False, redis_url="redis://127.0.0.1:1") as storeless:
        for rpc, request in REQUESTS.items():
            ended[rpc].add(await _status(request(storeless, ())))
    async with start_gateway(max_message_bytes=256) as small:
        padded = pb.SessionConfig(voice_id="a" * 512)
        for rpc, request in {
            "CreateSession": _create(voice_id="a" * 512),
            "GetSession": lambda client, _: client.dialogue.GetSession(pb.GetSessionRequest(session_id="x" * 512)),
            "UpdateSession": _update(session_id="x", config=padded),
            "DeleteSession": lambda client, _: client.dialogue.DeleteSession(
                pb.DeleteSessionRequest(session_id="x" * 512)
            ),
            "Converse": lambda client, _: _converse(client, (), new_session=padded),
            "CreateVoice": _create_voice(),
            "GetVoice": _get_voice("x" * 512),
            "ListVoices": _list(page_token="x" * 512),
            "DeleteVoice": _delete_voice("x" * 512),
        }.items():
            ended[rpc].add(await _status(request(small, ())))
    assert ended == dict.fromkeys(RPCS, EVERY_RPC)


async def test_each_rpc_ends_with_the_statuses_that_it_lists(
    start_gateway: StartGateway, client: Client, fakes: Fakes
) -> None:
    created = await client.dialogue.CreateSession(pb.CreateSessionRequest(config=pb.SessionConfig(voice_id="ada")))
    requests: dict[str, list[Requests]] = {
        "CreateSession": [_create(voice_id="?"), _create(voice_id="unknown")],
        "GetSession": [REQUESTS["GetSession"]],
        "UpdateSession": [
            _update(session_id=created.session.session_id, config=pb.SessionConfig(voice_id="?")),
            _update(session_id="x"),
        ],
        "DeleteSession": [REQUESTS["DeleteSession"]],
        "Converse": [
            lambda client, metadata: _converse(client, metadata, max_lead_s=-1),
            lambda client, metadata: _converse(client, metadata, session_id="x"),
        ],
        "CreateVoice": [
            _create_voice(consent=""),
            _create_voice("ada"),
            _enrol_under_a_revoked_consent,
            _retry_too_late,
        ],
        "GetVoice": [_get_voice("x")],
        "ListVoices": [_list(page_size=1_001)],
        "DeleteVoice": [_delete_voice("x")],
    }
    ended = {rpc: {await _status(request(client, ())) for request in tried} for rpc, tried in requests.items()}
    for failure in (OutOfRange("long"), ResourceExhausted("full"), DeadlineExceeded("slow")):
        fakes.codec.script.failures = [failure]
        ended["CreateVoice"].add(await _status(_create_voice()(client, ())))
    await fakes.codec.kill()
    ended["CreateVoice"].add(await _status(_create_voice()(client, ())))
    async with start_gateway(wait=False, max_conversations=1, idle_limit_s=2.0) as strict, strict.converse() as idle:
        ended["Converse"].add(await _status(_converse(strict, ())))
        ended["Converse"].add((await idle.error()).code().name)
    async with client.converse() as talk:
        client.server.draining.set()
        ended["Converse"].add((await talk.error()).code().name)
    assert ended == RPCS


async def test_a_turn_fails_with_the_statuses_that_converse_lists(start_gateway: StartGateway, fakes: Fakes) -> None:
    failed = {"INTERNAL"}  # a bug, which no turn can ask for
    async with start_gateway(max_input_s=0.1, max_input_chars=100) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with client.converse() as talk:

            async def fail(text: str) -> None:
                failed.add(_name((await talk.ask(text)).error.code))

            fakes.reasoner.script.refusal = ResourceExhausted("full")
            await fail("question")
            fakes.reasoner.script.refusal = None
            await fail("")
            await fail("a" * 101)
            await fakes.reasoner.kill()
            await fail("question")
            await fakes.reasoner.start()
            await client.voices.DeleteVoice(pb.DeleteVoiceRequest(voice_id="ada"))
            await fail("question")
    async with start_gateway(turn_limit_s=0.5, max_input_s=0.1, max_reply_s=0.4) as client:
        await client.voices.CreateVoice(new_voice("ada"))
        async with client.converse() as talk:
            fakes.codec.script.hold_at = 1
            failed.add(_name((await talk.ask("question")).error.code))
    assert failed == TURN


def _name(code: int) -> str:
    return next(status.name for status in StatusCode if status.value[0] == code)
