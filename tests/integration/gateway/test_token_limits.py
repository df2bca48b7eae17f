"""The limit of a reply in tokens: those of its text and the frames of its speech, as its usage counts them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.integration.gateway.conftest import Fakes
from tests.support.fake_script import REPLY
from tests.support.gateway_client import Client
from tests.support.realtime_client import MANUAL, Talk, openai_of

TEXT_TOKENS = len(REPLY) + 1
"""With the token that ends the reply."""
FRAMES = 2 * TEXT_TOKENS
QUESTION = [{"role": "user", "content": "question"}]


async def _ask(client: Client, **fields: Any) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=f"http://{client.http_address}", timeout=60) as http:
        answer = await http.post("/v1/chat/completions", json={"messages": QUESTION, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("limit", [1, 3, TEXT_TOKENS - 1])
async def test_a_written_answer_has_as_many_tokens_as_its_limit_and_says_that_it_was_cut(
    client: Client, name: str, limit: int
) -> None:
    answer = await _ask(client, **{name: limit})
    (choice,) = answer["choices"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("length", "".join(REPLY[:limit]))
    assert answer["usage"]["completion_tokens"] == limit


async def test_a_written_answer_within_its_limit_is_whole(client: Client) -> None:
    answer = await _ask(client, max_tokens=TEXT_TOKENS)
    assert (answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"]) == ("stop", TEXT_TOKENS)


@pytest.mark.parametrize("limit", [2, 3, 7, 9, TEXT_TOKENS + FRAMES - 1])
async def test_a_spoken_answer_has_no_more_tokens_than_its_limit_and_says_that_it_was_cut(
    client: Client, limit: int
) -> None:
    answer = await _ask(client, max_tokens=limit, modalities=["text", "audio"], audio={"voice": "ada"})
    usage = answer["usage"]
    assert answer["choices"][0]["finish_reason"] == "length"
    assert limit - 3 < usage["completion_tokens"] <= limit  # a thought and its two frames come together
    assert usage["completion_tokens_details"]["audio_tokens"] >= usage["completion_tokens"] // 2


async def test_a_spoken_answer_within_its_limit_is_whole(client: Client, fakes: Fakes) -> None:
    spoken = {"modalities": ["text", "audio"], "audio": {"voice": "ada"}}
    answer = await _ask(client, max_tokens=TEXT_TOKENS + FRAMES, **spoken)
    assert (answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"]) == ("stop", 18)
    fakes.speech_gen.script.ends_at = 4  # the model ends its speech before its text
    answer = await _ask(client, max_tokens=TEXT_TOKENS + FRAMES, **spoken)
    assert answer["choices"][0]["finish_reason"] == "stop"


async def test_what_a_short_text_leaves_of_the_limit_is_for_the_speech(client: Client, fakes: Fakes) -> None:
    fakes.reasoner.script.reply = ("Hello",)
    fakes.speech_gen.script.frames_after = 5
    spoken = {"modalities": ["text", "audio"], "audio": {"voice": "ada"}}
    for limit, reason, tokens in ((11, "stop", 11), (10, "length", 10)):
        answer = await _ask(client, max_tokens=limit, **spoken)
        assert (answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"]) == (reason, tokens)


async def test_one_token_is_text_without_speech(client: Client) -> None:
    answer = await _ask(client, max_tokens=1, modalities=["text", "audio"], audio={"voice": "ada"})
    assert answer["choices"][0]["message"]["audio"]["transcript"] == REPLY[0]
    assert (answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"]) == ("length", 1)


async def test_a_stream_says_that_it_was_cut(client: Client) -> None:
    async with openai_of(client) as openai:
        stream = await openai.chat.completions.create(
            model="m",
            messages=[{"role": "user", "content": "question"}],
            max_tokens=3,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks: list[Any] = [chunk async for chunk in stream]
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage.completion_tokens == 3


@pytest.mark.parametrize("modality", ["text", "audio"])
async def test_a_realtime_reply_beyond_its_limit_is_incomplete(client: Client, modality: str) -> None:
    async with openai_of(client) as openai, openai.realtime.connect(model="m") as connection:
        talk = Talk(connection)
        await talk.send("session.update", session={**MANUAL, "output_modalities": [modality], "max_output_tokens": 3})
        updated = (await talk.until("session.updated"))[-1]
        assert updated.session.max_output_tokens == 3
        response = (await talk.say("question"))[-1].response
        assert (response.status, response.status_details.reason) == ("incomplete", "max_output_tokens")
        assert response.usage.output_tokens == 3
        assert response.output[0].status == "incomplete"
        await talk.add("user", {"type": "input_text", "text": "question"})
        await talk.send("response.create", response={"max_output_tokens": "inf"})
        assert (await talk.until("response.done"))[-1].response.status == "completed"
        assert (await talk.say("question"))[-1].response.status == "incomplete"
