"""Bad input gets the right status and a message that says what was expected, and the next turn works."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from grpc import StatusCode, aio

from chroma.v1 import dialogue_pb2 as pb
from chroma.v1.audio_pb2 import (
    AUDIO_ENCODING_PCM_F32LE,
    AUDIO_ENCODING_PCM_S16LE,
    AUDIO_ENCODING_UNSPECIFIED,
    AudioFormat,
)
from chroma.v1.generation_pb2 import Sampling
from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.gateway_client import Client, Talk, s16, speech

F32 = AudioFormat(encoding=AUDIO_ENCODING_PCM_F32LE, sample_rate_hz=16_000)

BAD_CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "a voice id that cannot be": ({"voice_id": "Ada!"}, "voice id"),
    "temperature 0": ({"sampling": Sampling(temperature=0)}, "sampling.temperature: expected a number above 0"),
    "negative temperature": ({"sampling": Sampling(temperature=-1)}, "sampling.temperature: expected a number above 0"),
    "NaN temperature": (
        {"sampling": Sampling(temperature=float("nan"))},
        "sampling.temperature: expected a number above 0",
    ),
    "top_k 0": ({"sampling": Sampling(top_k=0)}, "sampling.top_k: expected at least 1"),
    "top_p 0": ({"sampling": Sampling(top_p=0)}, "sampling.top_p: expected above 0 and at most 1"),
    "top_p above 1": ({"sampling": Sampling(top_p=1.5)}, "sampling.top_p: expected above 0 and at most 1"),
    "a system prompt too long": ({"system_prompt": "a" * 32_001}, "at most 32000 characters, got 32001"),
    "no reply at all": ({"max_reply_s": 0}, "max_reply_s above 0"),
}

BAD_OPENS: dict[str, tuple[dict[str, Any], str]] = {
    "a sample rate too low": (
        {"input_format": AudioFormat(encoding=AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=7_999)},
        "8000 to 48000 Hz, got 7999",
    ),
    "a sample rate too high": (
        {"input_format": AudioFormat(encoding=AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=96_000)},
        "8000 to 48000 Hz, got 96000",
    ),
    "no encoding": (
        {"input_format": AudioFormat(encoding=AUDIO_ENCODING_UNSPECIFIED, sample_rate_hz=16_000)},
        "audio encoding",
    ),
    "a negative lead": ({"max_lead_s": -1.0}, "max_lead_s of 0 or more"),
    "an infinite lead": ({"max_lead_s": float("inf")}, "max_lead_s of 0 or more"),
}


def _config(**changes: Any) -> pb.SessionConfig:
    return pb.SessionConfig(**{"voice_id": "ada", **changes})


async def _status(client: Client, *messages: pb.ConverseRequest) -> aio.AioRpcError:
    """The status of a conversation that consists of these messages."""
    talk = Talk(client.dialogue.Converse())
    for message in messages:
        await talk.call.write(message)
    return await talk.error()


@pytest.mark.parametrize("case", BAD_CONFIGS)
async def test_bad_settings_make_no_session(client: Client, case: str) -> None:
    changes, expected = BAD_CONFIGS[case]
    with pytest.raises(aio.AioRpcError, match=expected) as raised:
        await client.dialogue.CreateSession(pb.CreateSessionRequest(config=_config(**changes)))
    assert raised.value.code() == StatusCode.INVALID_ARGUMENT
    error = await _status(client, pb.ConverseRequest(open=pb.ConverseOpen(new_session=_config(**changes))))
    assert error.code() == StatusCode.INVALID_ARGUMENT
    assert expected in (error.details() or "")


@pytest.mark.parametrize("case", BAD_CONFIGS)
async def test_bad_new_settings_end_the_conversation(client: Client, case: str) -> None:
    changes, expected = BAD_CONFIGS[case]
    async with client.converse() as talk:
        await talk.send(update=pb.SessionConfig(**changes))
        error = await talk.error()
    assert error.code() == StatusCode.INVALID_ARGUMENT
    assert expected in (error.details() or "")


@pytest.mark.parametrize("case", BAD_OPENS)
async def test_bad_options_open_no_conversation(client: Client, case: str) -> None:
    changes, expected = BAD_OPENS[case]
    opened = pb.ConverseOpen(**{"new_session": _config(), **changes})
    error = await _status(client, pb.ConverseRequest(open=opened))
    assert error.code() == StatusCode.INVALID_ARGUMENT
    assert expected in (error.details() or "")


async def test_messages_out_of_order_end_the_call(client: Client) -> None:
    opened = pb.ConverseRequest(open=pb.ConverseOpen(new_session=_config()))
    for messages, expected in (
        ([pb.ConverseRequest(text="hello")], "`open` as the first message"),
        ([pb.ConverseRequest()], "one field of `request`"),
        ([pb.ConverseRequest(open=pb.ConverseOpen())], "`session_id` or `new_session`"),
        ([opened, opened], "`open` once"),
        ([opened, pb.ConverseRequest()], "one field of `request`"),
        ([opened, pb.ConverseRequest(audio=bytes(2))], "no `input_format`"),
    ):
        error = await _status(client, *messages)
        assert error.code() == StatusCode.INVALID_ARGUMENT
        assert expected in (error.details() or "")


async def test_unknown_voices_and_sessions_are_not_found(client: Client) -> None:
    opened = pb.ConverseRequest(open=pb.ConverseOpen(new_session=_config()))
    for messages, expected in (
        ([pb.ConverseRequest(open=pb.ConverseOpen(new_session=_config(voice_id="bob")))], "no voice 'bob'"),
        ([pb.ConverseRequest(open=pb.ConverseOpen(session_id="nope"))], "no session 'nope'"),
        ([opened, pb.ConverseRequest(update=pb.SessionConfig(voice_id="bob"))], "no voice 'bob'"),
    ):
        error = await _status(client, *messages)
        assert error.code() == StatusCode.NOT_FOUND
        assert expected in (error.details() or "")


async def test_a_turn_with_bad_input_fails_and_the_next_one_works(client: Client, fakes: Fakes) -> None:
    noise = speech(0.5)
    broken = noise.copy()
    broken[100] = np.nan
    loud = noise.copy()
    loud[7] = np.inf
    async with client.converse(input_format=F32) as talk:
        for messages, expected in (
            ([], "got an empty turn"),
            ([{"text": ""}], "got an empty turn"),
            ([{"audio": b""}], "got an empty turn"),
            ([{"audio": bytes(4 * 16_000)}], "1.00 s of silence"),
            (
                [{"audio": noise.tobytes()}, {"audio": broken.tobytes()}, {"audio": noise.tobytes()}],
                "nan at sample 100",
            ),
            ([{"audio": loud.tobytes()}], "inf at sample 7"),
        ):
            for message in messages:
                await talk.send(**message)
            await talk.send(commit=pb.CommitTurn())
            failed = await talk.done()
            assert failed.outcome == pb.TURN_OUTCOME_FAILED
            assert failed.error.code == StatusCode.INVALID_ARGUMENT.value[0]
            assert expected in failed.error.message
            assert not failed.recorded
            assert (await talk.ask("a good turn")).outcome == pb.TURN_OUTCOME_COMPLETED
        await talk.send(say=pb.Say(end=True))
        assert "expected text to say" in (await talk.done()).error.message
        await talk.finish()
    assert fakes.open_calls == 0


async def test_input_beyond_the_stated_limits_is_out_of_range(start_gateway: StartGateway, client: Client) -> None:
    async with start_gateway(max_input_s=1.0, max_input_chars=20) as limited, limited.converse() as talk:
        for messages in (
            [{"audio": s16(speech(0.6))}, {"audio": s16(speech(0.6))}],
            [{"text": "more than ten chars"}, {"text": "..."}],
        ):
            for message in messages:
                await talk.send(**message)
            await talk.send(commit=pb.CommitTurn())
            assert (await talk.done()).error.code == StatusCode.OUT_OF_RANGE.value[0]
        await talk.send(say=pb.Say(text="a sentence that is far too long", end=True))
        assert (await talk.done()).error.code == StatusCode.OUT_OF_RANGE.value[0]
        assert (await talk.ask("good")).outcome == pb.TURN_OUTCOME_COMPLETED


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000, 44_100, 48_000])
async def test_speech_at_any_rate_reaches_the_reasoner_at_16_khz(client: Client, fakes: Fakes, rate_hz: int) -> None:
    audio_format = AudioFormat(encoding=AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=rate_hz)
    samples = speech(1.0, rate_hz=rate_hz)
    async with client.converse(input_format=audio_format) as talk:
        for first in range(0, rate_hz, 1_111):
            await talk.send(audio=s16(samples[first : first + 1_111]))
        await talk.send(commit=pb.CommitTurn())
        assert (await talk.done()).input_audio_s == pytest.approx(1.0)
    heard = b"".join(part for part in fakes.reasoner.script.heard if isinstance(part, bytes))
    assert len(heard) == 2 * 16_000
    if rate_hz == 16_000:
        assert heard == s16(samples)
