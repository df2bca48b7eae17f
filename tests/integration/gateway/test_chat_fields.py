"""What stock clients send to /v1/chat/completions beyond the conversation: stop, seed, and what has no effect."""

from __future__ import annotations

import base64
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from services.common.wire.audio import FRAMES_PER_THOUGHT
from tests.integration.gateway.conftest import Fakes
from tests.support.fake_script import REPLY

SAID = "".join(REPLY)
ASKED: Any = [{"role": "user", "content": "question"}]
SPOKEN: Any = {"modalities": ["text", "audio"], "audio": {"voice": "ada", "format": "pcm16"}}


@pytest.mark.parametrize(
    ("stop", "said"),
    [("dear", "Hello, "), (["world", "ear w"], "Hello, d"), ("lo, de", "Hel"), ("Hello", ""), (["no", "such"], SAID)],
    ids=str,
)
async def test_a_written_reply_ends_before_a_stop_sequence(
    sdk: AsyncOpenAI, fakes: Fakes, stop: Any, said: str
) -> None:
    answer = await sdk.chat.completions.create(model="m", messages=ASKED, stop=stop)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (said, "stop")
    stream = await sdk.chat.completions.create(model="m", messages=ASKED, stop=stop, stream=True)
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == said
    await fakes.all_freed()


@pytest.mark.parametrize(
    ("stop", "said", "thoughts"), [("world", "Hello, dear ", 3), ("ar", "Hello, de", 2), ("Hel", "", 0), ("x", SAID, 6)]
)
async def test_the_speech_of_a_reply_ends_with_its_text(
    sdk: AsyncOpenAI, fakes: Fakes, stop: str, said: str, thoughts: int
) -> None:
    answer = await sdk.chat.completions.create(model="m", messages=ASKED, stop=stop, **SPOKEN)
    audio = answer.choices[0].message.audio
    assert audio is not None
    assert audio.transcript == said
    assert len(base64.b64decode(audio.data)) == thoughts * FRAMES_PER_THOUGHT * 1920 * 2
    assert answer.choices[0].finish_reason == "stop"
    await fakes.all_freed()


async def test_a_text_that_may_begin_a_stop_sequence_waits_and_other_text_does_not(
    sdk: AsyncOpenAI, fakes: Fakes
) -> None:
    fakes.reasoner.script.hold_at = 2
    stream = await sdk.chat.completions.create(model="m", messages=ASKED, stop=", d!", stream=True)
    said = ""
    async for chunk in stream:
        said += chunk.choices[0].delta.content or ""
        if said == "Hello":  # ", " is held back: it begins the stop sequence
            await fakes.reasoner.script.held.wait()
            fakes.reasoner.script.go.set()
    assert said == SAID


async def test_a_seed_reaches_the_sampling_of_the_speech(sdk: AsyncOpenAI, fakes: Fakes) -> None:
    for seed, expected in ((7, 7), (-1, 2**64 - 1)):
        await sdk.chat.completions.create(model="m", messages=ASKED, seed=seed, n=1, **SPOKEN)
        assert fakes.speech_gen.script.opened[-1].sampling.seed == expected


async def test_several_replies_to_a_request_are_a_clear_400(sdk: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="expected 1, got 2") as refused:
        await sdk.chat.completions.create(model="m", messages=ASKED, n=2)
    assert refused.value.param == "n"


@pytest.mark.parametrize("stream", [False, True])
async def test_what_has_no_effect_is_accepted_and_named(sdk: AsyncOpenAI, stream: bool) -> None:
    answer = await sdk.chat.completions.with_raw_response.create(
        model="m",
        messages=ASKED,
        temperature=0.2,
        presence_penalty=0.5,
        frequency_penalty=0,
        reasoning_effort="low",
        verbosity="low",
        logprobs=False,
        response_format={"type": "text"},
        user="someone",
        metadata={"a": "b"},
        store=False,
        service_tier="auto",
        stream=stream,
    )
    assert answer.headers["x-ignored-parameters"] == "temperature, presence_penalty, reasoning_effort, verbosity"


@pytest.mark.parametrize(
    ("field", "value", "instead"),
    [
        ("functions", [], "`tools`"),
        ("function_call", "none", "`tool_choice`"),
        ("web_search_options", {}, "`tools`"),
        ("moderation", {"model": "m"}, "yourself"),
    ],
)
async def test_what_is_not_offered_is_refused_with_what_replaces_it(
    sdk: AsyncOpenAI, field: str, value: Any, instead: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=f"{field}: this server does not offer it; .*{instead}") as refused:
        await sdk.chat.completions.create(model="m", messages=ASKED, extra_body={field: value})
    assert (refused.value.param, refused.value.code) == (field, "unsupported_value")


async def test_a_chat_that_ends_with_the_assistants_message_gets_another_reply(sdk: AsyncOpenAI, fakes: Fakes) -> None:
    messages: Any = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    for fields in ({}, SPOKEN):
        answer = await sdk.chat.completions.create(model="m", messages=messages, **fields)
        reply = answer.choices[0].message
        assert (reply.audio.transcript if reply.audio else reply.content) == SAID
        opened = fakes.reasoner.script.opened[-1]
        assert [part.text for message in opened.history for part in message.parts] == ["one", "two"]
    assert fakes.reasoner.script.heard == []


async def test_a_reply_is_appended_to_the_messages_as_it_came(sdk: AsyncOpenAI, fakes: Fakes) -> None:
    messages: Any = [{"role": "user", "content": "one"}]
    spoken = await sdk.chat.completions.create(model="m", messages=messages, store=False, **SPOKEN)
    messages.append(spoken.choices[0].message)
    messages.append({"role": "user", "content": "two"})
    written = await sdk.chat.completions.create(model="m", messages=messages)
    messages.append(
        written.choices[0].message.to_dict() | {"annotations": [], "tool_calls": None, "function_call": None}
    )
    messages.append({"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]})
    messages.append({"role": "user", "content": "three"})
    await sdk.chat.completions.create(model="m", messages=messages)
    past = [part.text for message in fakes.reasoner.script.opened[-1].history for part in message.parts]
    assert past == ["one", SAID, "two", SAID, "No."]
