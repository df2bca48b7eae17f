"""Hostile gRPC clients: a call ends with a status that says what was wrong, never with INTERNAL or UNKNOWN."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from grpc import StatusCode, aio
from hypothesis import given
from hypothesis import strategies as st

from chroma.v1 import dialogue_pb2 as pb
from chroma.v1.audio_pb2 import AudioFormat
from chroma.v1.generation_pb2 import Sampling
from chroma_voice.errors import FirstStatus
from tests.integration.gateway.conftest import Fakes
from tests.support.gateway_client import SPEECH_FORMAT, Client, audio_file, new_voice, s16, speech
from tests.support.hostile import FEW, HOSTILE, assert_tells_nothing

_BUGS = (StatusCode.INTERNAL, StatusCode.UNKNOWN, StatusCode.CANCELLED, StatusCode.DEADLINE_EXCEEDED)

_TEXTS = st.sampled_from(("", "a", "ada", "\0", "😀", "x" * 300, "a" * 30_000, "../../x", "<im_end>", "\n"))
_NUMBERS = st.sampled_from((0.0, -0.0, 1e-300, 0.5, 1.0, -1.0, 1e308, float("inf"), float("-inf"), float("nan")))
_COUNTS = st.sampled_from((0, 1, 2, 8_000, 16_000, 2**31, 2**32 - 1))
_RECORDING = audio_file(speech(1.2, rate_hz=8_000), rate_hz=8_000)


@pytest.fixture(autouse=True)
def no_bug_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No bug reaches a boundary, which logs it."""
    yield
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def _some(message: Callable[..., Any], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Messages in which any of the fields are set."""
    return st.fixed_dictionaries({}, optional=fields).map(lambda values: message(**values))


_SAMPLING = _some(
    Sampling, greedy=st.booleans(), temperature=_NUMBERS, top_k=_COUNTS, top_p=_NUMBERS, seed=st.just(2**64 - 1)
)
_CONFIG = _some(pb.SessionConfig, voice_id=_TEXTS, system_prompt=_TEXTS, max_reply_s=_NUMBERS, sampling=_SAMPLING)
_DETECTION = _some(
    pb.TurnDetection, threshold=_NUMBERS, silence_duration_ms=_COUNTS, prefix_padding_ms=_COUNTS, off=st.booleans()
)
_FORMAT = st.just(SPEECH_FORMAT) | _some(AudioFormat, encoding=st.integers(-1, 9), sample_rate_hz=_COUNTS)
_OPEN = _some(
    pb.ConverseOpen,
    new_session=st.just(pb.SessionConfig(voice_id="ada")) | _CONFIG,
    input_format=_FORMAT,
    output_encoding=st.integers(0, 9),
    max_lead_s=_NUMBERS,
    turn_detection=_DETECTION,
    transcribe=st.just(False),
    text_only=st.booleans(),
) | st.builds(lambda session_id: pb.ConverseOpen(session_id=session_id), _TEXTS)
_AUDIO = st.sampled_from((b"", b"\0", b"\0\1" * 100, s16(speech(0.3)), b"\xff" * 4_001, b"\0\0\xc0\x7f" * 50))
_TURN_MESSAGE = st.one_of(
    st.builds(lambda data: pb.ConverseRequest(audio=data), _AUDIO),
    st.builds(lambda text: pb.ConverseRequest(text=text), _TEXTS),
    st.just(pb.ConverseRequest(commit=pb.CommitTurn())),
    _some(pb.CancelTurn, played_ms=_COUNTS, turn_id=_TEXTS).map(lambda cancel: pb.ConverseRequest(cancel=cancel)),
    _some(pb.Say, text=_TEXTS, end=st.booleans()).map(lambda say: pb.ConverseRequest(say=say)),
    _CONFIG.map(lambda update: pb.ConverseRequest(update=update)),
    _DETECTION.map(lambda detection: pb.ConverseRequest(turn_detection=detection)),
    st.just(pb.ConverseRequest()),
    st.just(pb.ConverseRequest(open=pb.ConverseOpen(new_session=pb.SessionConfig(voice_id="ada")))),
)
_GOOD_OPEN = pb.ConverseRequest(
    open=pb.ConverseOpen(new_session=pb.SessionConfig(voice_id="ada"), input_format=SPEECH_FORMAT, max_lead_s=0.0)
)
_OPENING = st.just(_GOOD_OPEN) | _OPEN.map(lambda opened: pb.ConverseRequest(open=opened))


def _check(error: aio.AioRpcError | None) -> None:
    if error is None:  # the call ended well
        return
    assert error.code() not in _BUGS, error
    assert_tells_nothing(error.details() or "")


async def _converse(client: Client, *messages: Any) -> None:
    """Send the messages, close the sending side and read all answers, or the status that refuses them."""
    call = client.dialogue.Converse()
    first = FirstStatus(call)
    try:
        async with asyncio.timeout(30):
            try:
                for message in messages:
                    await call.write(message)
                await call.done_writing()
            except (aio.AioRpcError, asyncio.InvalidStateError):
                pass  # the call has ended: reading tells how
            while (answer := await call.read()) is not aio.EOF:
                assert_tells_nothing(str(answer))
    except aio.AioRpcError as error:
        _check(first.error(error))
    finally:
        call.cancel()


@HOSTILE
@given(messages=st.lists(_TURN_MESSAGE, max_size=8), opening=_OPENING)
async def test_any_messages_in_any_order_end_with_a_clear_status(
    client: Client, messages: list[Any], opening: Any
) -> None:
    await _converse(client, opening, *messages)


@HOSTILE
@given(messages=st.lists(_TURN_MESSAGE | _OPENING, max_size=4))
async def test_a_call_may_begin_with_any_message(client: Client, messages: list[Any]) -> None:
    await _converse(client, *messages)


async def test_no_call_is_left_by_clients_that_hang_up(client: Client, fakes: Fakes) -> None:
    for text in ("a", "b", "c"):
        call = client.dialogue.Converse()
        await call.write(_GOOD_OPEN)
        await call.write(pb.ConverseRequest(text=text))
        await call.write(pb.ConverseRequest(commit=pb.CommitTurn()))
        call.cancel()
    async with asyncio.timeout(60):
        await fakes.all_freed()


async def _call(call: Any) -> None:
    try:
        async with asyncio.timeout(30):
            await call
    except aio.AioRpcError as error:
        _check(error)


@FEW
@given(config=_CONFIG, session_id=_TEXTS)
async def test_any_session_request_is_answered(client: Client, config: Any, session_id: str) -> None:
    await _call(client.dialogue.CreateSession(pb.CreateSessionRequest(config=config)))
    await _call(client.dialogue.UpdateSession(pb.UpdateSessionRequest(session_id=session_id, config=config)))
    await _call(client.dialogue.GetSession(pb.GetSessionRequest(session_id=session_id)))
    await _call(client.dialogue.DeleteSession(pb.DeleteSessionRequest(session_id=session_id)))


@FEW
@given(
    changes=st.fixed_dictionaries(
        {},
        optional={
            "voice_id": _TEXTS,
            "display_name": _TEXTS,
            "transcript": _TEXTS,
            "consent": _TEXTS,
            "audio_file": st.just(_RECORDING) | st.binary(max_size=60),
        },
    ),
    page_size=_COUNTS,
    voice_id=_TEXTS,
)
async def test_any_voice_request_is_answered(
    client: Client, changes: dict[str, Any], page_size: int, voice_id: str
) -> None:
    await _call(client.voices.CreateVoice(new_voice(**{"voice_id": "eve", **changes})))
    await _call(client.voices.ListVoices(pb.ListVoicesRequest(page_size=page_size, page_token=voice_id)))
    await _call(client.voices.GetVoice(pb.GetVoiceRequest(voice_id=voice_id)))
    if voice_id != "ada":
        await _call(client.voices.DeleteVoice(pb.DeleteVoiceRequest(voice_id=voice_id)))


_METHODS = ("DialogueService/CreateSession", "DialogueService/GetSession", "VoiceService/CreateVoice")


@HOSTILE
@given(data=st.binary(max_size=40), method=st.sampled_from(_METHODS))
async def test_any_bytes_are_answered(client: Client, data: bytes, method: str) -> None:
    async with aio.insecure_channel(client.address) as channel:
        await _call(channel.unary_unary(f"/chroma.v1.{method}")(data))


@HOSTILE
@given(data=st.lists(st.binary(max_size=40) | st.just(_GOOD_OPEN.SerializeToString()), max_size=4))
async def test_any_bytes_in_a_conversation_are_answered(client: Client, data: list[bytes]) -> None:
    async with aio.insecure_channel(client.address) as channel:
        call = channel.stream_stream("/chroma.v1.DialogueService/Converse")(iter(data))
        first = FirstStatus(call)
        try:
            async with asyncio.timeout(30):
                async for _ in call:
                    pass
        except aio.AioRpcError as error:
            _check(first.error(error))
