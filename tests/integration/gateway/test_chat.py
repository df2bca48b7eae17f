"""/v1/chat/completions, with OpenAI's own Python client where it has what is tested."""

from __future__ import annotations

import asyncio
import base64
import io
import resource
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from openai import AsyncOpenAI

from chroma.v1 import dialogue_pb2 as pb
from gateway.audio.read import MAX_FILE_BYTES
from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.fake_script import REPLY
from tests.support.gateway_client import Client, audio_file, new_voice, speech
from tests.support.recordings import by_ffmpeg

RECORDING = audio_file(speech(2, rate_hz=24_000))
SPOKEN = 12 * 1920


def sound_of(data: bytes) -> int:
    """Samples of an audio file at 24 kHz."""
    sound, rate_hz = soundfile.read(io.BytesIO(data))
    assert rate_hz == 24_000
    return len(sound)


def b64(data: bytes) -> str:
    """Base64."""
    return base64.b64encode(data).decode()


async def test_a_spoken_question_gets_a_spoken_answer(sdk: AsyncOpenAI, fakes: Fakes) -> None:
    question = {"type": "input_audio", "input_audio": {"data": b64(RECORDING), "format": "wav"}}
    answer = await sdk.chat.completions.create(
        model="gpt-audio",
        modalities=["text", "audio"],
        audio={"voice": "ada", "format": "wav"},
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": [question]}],  # type: ignore[list-item]
    )
    audio = answer.choices[0].message.audio
    assert audio is not None
    assert audio.transcript == "".join(REPLY)
    assert sound_of(base64.b64decode(audio.data)) == SPOKEN
    assert (answer.choices[0].finish_reason, answer.usage and answer.usage.prompt_tokens) == ("stop", 30)
    opened = fakes.reasoner.script.opened[-1]
    assert (opened.session_id, opened.system_prompt) == ("", "Be brief.")
    assert sum(len(piece) for piece in fakes.reasoner.script.heard) == 2 * 16_000 * 4
    follow_up = await sdk.chat.completions.create(
        model="gpt-audio",
        messages=[
            {"role": "user", "content": "one"},
            {"role": "assistant", "audio": {"id": audio.id}},
            {"role": "user", "content": "two"},
        ],
    )
    assert follow_up.choices[0].message.content == "".join(REPLY)
    past = [part.text for message in fakes.reasoner.script.opened[-1].history for part in message.parts]
    assert past == ["one", "".join(REPLY)]


async def test_an_answer_streams_text_and_sound(sdk: AsyncOpenAI) -> None:
    stream = await sdk.chat.completions.create(
        model="gpt-audio",
        modalities=["text", "audio"],
        audio={"voice": "ada", "format": "pcm16"},
        messages=[{"role": "user", "content": "question"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    deltas: list[Any] = [chunk.choices[0].delta.to_dict().get("audio", {}) for chunk in chunks if chunk.choices]
    assert "".join(delta.get("transcript", "") for delta in deltas) == "".join(REPLY)
    assert len(b"".join(base64.b64decode(delta.get("data", "")) for delta in deltas)) == 2 * SPOKEN
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == len(REPLY) + 1 + 12
    assert chunks[-1].usage.completion_tokens_details is not None
    assert chunks[-1].usage.completion_tokens_details.audio_tokens == 12


async def test_a_written_answer_is_not_spoken(sdk: AsyncOpenAI, fakes: Fakes) -> None:
    before = len(fakes.speech_gen.script.opened)
    stream = await sdk.chat.completions.create(
        model="any", messages=[{"role": "user", "content": "question"}], stream=True
    )
    words = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(words) == "".join(REPLY)
    assert len(fakes.speech_gen.script.opened) == before


@pytest.mark.parametrize("prefix", ["", "data:audio/wav;base64,"])
async def test_a_request_to_the_existing_chroma_server_works_with_recordings_in_base64(
    http: httpx.AsyncClient, client: Client, prefix: str
) -> None:
    body = {
        "model": "chroma",
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": [{"type": "audio", "audio": prefix + b64(RECORDING)}]},
        ],
        "prompt_text": "hello",
        "prompt_audio": prefix + b64(RECORDING),
        "prompt_consent": "Ada agreed in writing",
        "max_tokens": 1000,
        "temperature": 1.0,
        "top_p": 1.0,
        "return_audio": True,
    }
    answer = (await http.post("/v1/chat/completions", json=body)).json()
    assert sound_of(base64.b64decode(answer["audio"])) == SPOKEN
    assert answer["choices"][0]["message"]["content"] == "".join(REPLY)
    voices = await client.voices.ListVoices(pb.ListVoicesRequest())
    assert [voice.voice_id for voice in voices.voices] == ["ada"]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"functions": [{"name": "look"}]}, "functions"),
        ({"function_call": "auto"}, "function_call"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"messages": [{"role": "user", "content": [{"type": "audio", "audio": "/etc/x"}]}]}, "messages.0.content.0"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content"),
        ({"prompt_text": "x"}, "prompt_text"),
        ({"prompt_text": "x", "prompt_audio": "/etc/passwd", "prompt_consent": "agreed"}, "prompt_audio"),
        ({"prompt_text": "x", "prompt_audio": "UklGRg=="}, "prompt_consent"),
        ({"prompt_text": "x", "prompt_audio": "UklGRg==", "prompt_consent": " "}, "prompt_consent"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"n": 2}, "n"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"frequency_penalty": 3}, "frequency_penalty"),
        ({"temperature": -1}, "temperature"),
        ({"messages": [{"role": "user", "content": "hi"}] * 1_001}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}] * 1_001}]}, "messages"),
    ],
)
async def test_bad_chats_are_refused_in_openais_shape(
    http: httpx.AsyncClient, change: dict[str, Any], param: str
) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **change}
    answer = await http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"].startswith(param)


async def test_many_small_files_that_hold_hours_of_audio_are_413_before_they_are_decoded(
    http: httpx.AsyncClient,
) -> None:
    """A FLAC file of a constant takes 4 kB for two minutes, which are 7.7 MB of samples."""
    file = b64(audio_file(np.full(8_000 * 119, 0.25, np.float32), 8_000, format="FLAC", subtype="PCM_16"))
    parts = [{"type": "audio", "audio": file}] * 400
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    body = {"modalities": ["text"], "messages": [{"role": "user", "content": parts}]}
    answer = await http.post("/v1/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024
    assert grown_mb < 400, f"400 parts together are 3,000 MB of samples; the process grew by {grown_mb:.0f} MB"


async def test_a_chat_is_decoded_in_a_seat(start_gateway: StartGateway) -> None:
    async with (
        start_gateway(max_conversations=1) as client,
        httpx.AsyncClient(base_url=f"http://{client.http_address}", timeout=60) as http,
    ):
        await client.voices.CreateVoice(new_voice("ada"))
        broken = {"messages": [{"role": "user", "content": [{"type": "audio", "audio": b64(b"no recording")}]}]}
        async with client.converse():
            assert (await http.post("/v1/chat/completions", json=broken)).status_code == 429
        while (answer := await http.post("/v1/chat/completions", json=broken)).status_code == 429:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # the seat is free once the gateway sees the end of the call
        assert answer.status_code == 400


async def test_a_browsers_recording_as_a_wrapped_data_url_is_answered(http: httpx.AsyncClient, fakes: Fakes) -> None:
    file = by_ffmpeg(np.pad(speech(2, rate_hz=48_000), (60 * 48_000, 0)), 48_000, "webm", "libopus")
    data = "data:audio/webm;codecs=opus;base64," + base64.encodebytes(file).decode()
    audio = {"type": "input_audio", "input_audio": {"data": data, "format": "webm"}}
    answer = await http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": [audio]}]})
    assert answer.status_code == 200, answer.text
    heard = sum(len(piece) for piece in fakes.reasoner.script.heard) / 4 / 16_000
    assert heard == pytest.approx(3, abs=0.15)  # of a minute of silence before it, one second is kept


async def test_a_picture_in_a_chat_is_refused_by_its_name(http: httpx.AsyncClient) -> None:
    audio = {"type": "input_audio", "input_audio": {"data": b64(b"\x89PNG\r\n\x1a\n" + bytes(500)), "format": "wav"}}
    answer = await http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": [audio]}]})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].endswith("got a PNG picture")


async def test_an_oversize_recording_in_a_chat_is_413(http: httpx.AsyncClient) -> None:
    audio = {"type": "input_audio", "input_audio": {"data": b64(bytes(MAX_FILE_BYTES + 1))}}
    answer = await http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": [audio]}]})
    assert (answer.status_code, answer.json()["error"]["param"]) == (413, "messages.0.content.0")
