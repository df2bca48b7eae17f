"""/v1/audio/transcriptions, with OpenAI's own Python client: the reasoner's transcript of a recording."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import soundfile
from openai import AsyncOpenAI
from openai.types.audio import TranscriptionStreamEvent, TranscriptionVerbose
from pydantic import TypeAdapter

from services.common.errors import ResourceExhausted
from tests.integration.gateway.conftest import Fakes, StartGateway
from tests.support.fake_script import REPLY
from tests.support.gateway_client import Client, audio_file, new_voice, speech
from tests.support.paths import SAMPLES

SPEECH = audio_file(speech(2, rate_hz=24_000))
SAID = "".join(REPLY)
FILE = ("question.wav", SPEECH, "audio/wav")


@pytest.fixture
async def listening(start_gateway: StartGateway) -> AsyncIterator[Client]:
    """A client of a gateway that transcribes."""
    async with start_gateway(transcribe=True) as client:
        yield client


@pytest.fixture
async def sdk(listening: Client) -> AsyncIterator[AsyncOpenAI]:
    """OpenAI's client of that gateway."""
    async with AsyncOpenAI(api_key="none", base_url=f"http://{listening.http_address}/v1", max_retries=0) as sdk:
        yield sdk


async def test_a_recording_is_written_down_and_counted_in_seconds(sdk: AsyncOpenAI, fakes: Fakes) -> None:
    said = await sdk.audio.transcriptions.create(model="whisper-1", file=FILE)
    assert said.text == SAID
    assert said.usage is not None
    assert said.usage.to_dict() == {"type": "duration", "seconds": 2.0}
    opened = fakes.reasoner.script.opened[-1]
    assert (opened.session_id, opened.keep, list(opened.history)) == ("", False, [])
    assert "write down speech" in opened.system_prompt
    assert not fakes.speech_gen.script.opened, "a transcript is not spoken"


async def test_the_transcript_comes_as_text_and_with_its_length(sdk: AsyncOpenAI) -> None:
    text: Any = await sdk.audio.transcriptions.create(model="m", file=FILE, response_format="text")
    assert text == f"{SAID}\n"
    verbose = await sdk.audio.transcriptions.create(model="m", file=FILE, response_format="verbose_json", language="en")
    TranscriptionVerbose.model_validate(verbose.to_dict(), strict=True)
    assert (verbose.text, verbose.language, verbose.duration) == (SAID, "en", 2.0)
    assert (verbose.segments, verbose.words) == (None, None)


async def test_the_transcript_streams_as_the_events_of_the_specification(sdk: AsyncOpenAI, fakes: Fakes) -> None:
    fakes.reasoner.script.hold_at = 3
    stream = await sdk.audio.transcriptions.create(model="m", file=FILE, stream=True)
    events = [await anext(stream)]
    await fakes.reasoner.script.held.wait()  # the first piece comes before the last one is made
    fakes.reasoner.script.go.set()
    events += [event async for event in stream]
    for event in events:
        TypeAdapter(TranscriptionStreamEvent).validate_python(event.to_dict())
    deltas: list[Any] = events[:-1]
    done: Any = events[-1]
    assert "".join(event.delta for event in deltas) == done.text == SAID
    assert {event.type for event in deltas} == {"transcript.text.delta"}
    assert (done.usage.input_tokens, done.usage.output_tokens) == (30, len(REPLY) + 1)


@pytest.mark.parametrize(("caption_format", "mark"), [("srt", ","), ("vtt", ".")])
async def test_captions_have_the_times_of_the_stretches_of_speech(
    sdk: AsyncOpenAI, caption_format: Any, mark: str
) -> None:
    samples, rate_hz = soundfile.read(SAMPLES / "question_make_taco.wav", dtype="float32")
    voice = np.asarray(samples, np.float32)
    gap = np.zeros(3 * rate_hz, np.float32)
    file = audio_file(np.concatenate((gap[: rate_hz // 2], voice, gap, voice)), rate_hz)
    captions: Any = await sdk.audio.transcriptions.create(
        model="m", file=("two.wav", file), response_format=caption_format
    )
    cues = re.findall(rf"00:00:(\d\d)\{mark}(\d\d\d) --> 00:00:(\d\d)\{mark}(\d\d\d)\n(.*)\n", captions)
    times = [(int(cue[0]) + int(cue[1]) / 1000, int(cue[2]) + int(cue[3]) / 1000) for cue in cues]
    voice_s = len(voice) / rate_hz
    assert [cue[4] for cue in cues] == [SAID, SAID]
    assert times[0][0] < 1.0
    assert times[0][1] < voice_s + 1.5
    assert voice_s + 3.0 < times[1][0] < voice_s + 4.2
    assert captions.startswith("1\n" if caption_format == "srt" else "WEBVTT\n\n")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": "diarized_json"}, "response_format"),
        ({"response_format": "verbose_json", "timestamp_granularities": ["word"]}, "timestamp_granularities"),
        ({"include": ["logprobs"]}, "include"),
        ({"response_format": "srt", "stream": True}, "response_format"),
        ({"temperature": 2}, "temperature"),
        ({"response_format": "yaml"}, "response_format"),
        ({"extra_body": {"vad_filter": "true"}}, "vad_filter"),
        ({"file": ("notes.txt", b"no sound at all")}, "file"),
        ({"file": ("long.wav", audio_file(speech(125, rate_hz=8_000), 8_000))}, "file"),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_what_there_are_no_true_values_for_is_a_clear_400(
    sdk: AsyncOpenAI, fakes: Fakes, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await sdk.audio.transcriptions.create(**{"model": "m", "file": FILE, **fields})
    assert refused.value.param == param
    assert not fakes.reasoner.script.opened


async def test_the_transcript_of_silence_is_empty(sdk: AsyncOpenAI, fakes: Fakes) -> None:
    silent = ("silence.wav", audio_file(np.zeros(3 * 24_000, np.float32)))
    answer = await sdk.audio.transcriptions.create(model="m", file=silent)
    assert answer.text == ""
    assert answer.usage is not None
    assert answer.usage.to_dict()["seconds"] == pytest.approx(3.0, abs=0.01)
    captions: Any = await sdk.audio.transcriptions.create(model="m", file=silent, response_format="vtt")
    assert captions == "WEBVTT\n"
    stream = await sdk.audio.transcriptions.create(model="m", file=silent, stream=True)
    assert [event.type async for event in stream] == ["transcript.text.done"]
    assert not fakes.reasoner.script.opened


async def test_the_length_is_that_of_the_file_with_its_silence(sdk: AsyncOpenAI) -> None:
    late = np.concatenate((np.zeros(5 * 24_000, np.float32), speech(1, rate_hz=24_000)))
    answer = await sdk.audio.transcriptions.create(
        model="m", file=("late.wav", audio_file(late)), response_format="verbose_json"
    )
    assert answer.duration == pytest.approx(6.0, abs=0.01)


async def test_parameters_without_effect_are_named(sdk: AsyncOpenAI) -> None:
    answer = await sdk.audio.transcriptions.with_raw_response.create(
        model="m", file=FILE, language="en", prompt="Names: Ada.", temperature=0.5
    )
    assert answer.headers["x-ignored-parameters"] == "language, prompt, temperature"
    plain = await sdk.audio.transcriptions.with_raw_response.create(model="m", file=FILE, temperature=0)
    assert "x-ignored-parameters" not in plain.headers


async def test_a_full_reasoner_is_429_also_before_a_stream(sdk: AsyncOpenAI, fakes: Fakes) -> None:
    for stream in (False, True):
        fakes.reasoner.script.failures = [ResourceExhausted("no slot", retry_after_s=2.0)]
        with pytest.raises(openai.RateLimitError):
            await sdk.audio.transcriptions.create(model="m", file=FILE, stream=stream)  # pyright: ignore[reportCallIssue, reportArgumentType]
    await fakes.all_freed()


async def test_a_client_that_hangs_up_frees_the_pass(listening: Client, fakes: Fakes) -> None:
    fakes.reasoner.script.hold_at = 2
    form: Any = {"data": {"stream": "true"}, "files": {"file": FILE}}
    async with (
        httpx.AsyncClient(base_url=f"http://{listening.http_address}", timeout=60) as http,
        http.stream("POST", "/v1/audio/transcriptions", **form) as answer,
    ):
        assert answer.status_code == 200
        await anext(answer.aiter_bytes(1))
    await fakes.all_freed()


async def test_a_transcript_is_a_turn_of_the_key_and_its_seconds_count(start_gateway: StartGateway) -> None:
    async with (
        start_gateway(transcribe=True, key_turns_per_minute=2, key_input_audio_s_per_day=1_000) as client,
        httpx.AsyncClient(base_url=f"http://{client.http_address}", timeout=60) as http,
    ):
        answers = [await http.post("/v1/audio/transcriptions", files={"file": FILE}) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[1].headers["x-ratelimit-remaining-requests"] == "0"
        usage = (await http.get("/v1/usage")).json()["keys"][0]["limits"]
        used = {limit["name"]: limit["used"] for limit in usage}
        assert (used["turns_per_minute"], used["input_audio_s_per_day"]) == (2, 4)
        assert used["conversations"] == 0


async def test_a_server_that_may_not_transcribe_says_so_and_has_no_translations(client: Client) -> None:
    async with AsyncOpenAI(api_key="none", base_url=f"http://{client.http_address}/v1", max_retries=0) as sdk:
        with pytest.raises(openai.PermissionDeniedError, match="CHROMA_TRANSCRIBE"):
            await sdk.audio.transcriptions.create(model="whisper-1", file=FILE)
    async with httpx.AsyncClient(base_url=f"http://{client.http_address}", timeout=60) as http:
        answer = await http.post("/v1/audio/translations", files={"file": FILE})
        assert answer.status_code == 404
        assert "/v1/audio/translations" in answer.json()["error"]["message"]


async def test_a_transcript_takes_a_seat(start_gateway: StartGateway) -> None:
    async with (
        start_gateway(transcribe=True, max_conversations=1) as client,
        httpx.AsyncClient(base_url=f"http://{client.http_address}", timeout=60) as http,
    ):
        await client.voices.CreateVoice(new_voice("ada"))
        async with client.converse():
            assert (await http.post("/v1/audio/transcriptions", files={"file": FILE})).status_code == 429
